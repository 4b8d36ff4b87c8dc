// Who asks, and what they may: what the role does not allow is not offered. The server decides all the same.

import { get } from "./api.js";

const ROLES = ["anyone", "viewer", "operator", "admin"];
export const session = { name: null, role: "admin", tokens: false, known: false };

export async function learn() {
  const found = await get("api/session").catch(() => null); // the server is away: it refuses what is not allowed
  if (found) Object.assign(session, found, { known: true });
}

export const may = (role) => ROLES.indexOf(session.role) >= ROLES.indexOf(role);

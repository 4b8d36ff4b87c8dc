// The page: which part is shown, when it is loaded anew, and what is around it. A part is
//   title(params), load(context) -> data, view(data, context) -> elements, follows(params) -> filter of events,
//   and, where it has a life of its own, begin(context), event(name, event, context), end(context).

import { h, render, framed } from "./dom.js";
import * as live from "./live.js";
import { Problem, post, remove, who } from "./api.js";
import { prose, to } from "./format.js";
import { learn, session } from "./session.js";
import { askFor, attempt, listKeys, toast } from "./parts.js";
import now from "./pages/now.js";
import tasks from "./pages/tasks.js";
import task from "./pages/task.js";
import runs from "./pages/runs.js";
import run from "./pages/run.js";
import graph from "./pages/graph.js";
import matrix from "./pages/matrix.js";
import breakpoints from "./pages/breakpoints.js";
import rules from "./pages/rules.js";
import rule from "./pages/rule.js";
import { audit, hosts, incoming, plugins } from "./pages/lists.js";
import variables from "./pages/variables.js";
import search from "./pages/search.js";

const PARTS = {
  now,
  tasks,
  runs,
  graph,
  matrix,
  breakpoints,
  rules,
  hosts,
  variables,
  incoming,
  plugins,
  audit,
  search,
  "tasks/": task,
  "runs/": run,
  "rules/": rule,
};
const PAUSE = 400; // milliseconds between two loads, at least
const TICK = 1000; // milliseconds after which times that go on are drawn anew
const SLOWLY = 30000; // milliseconds after which a part is loaded anew though nothing was heard

const main = document.getElementById("main");
let shown = null; // the context of the part that is shown

// ---- which part

function route() {
  const [path, given = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/").map(decodeURIComponent);
  const known = PARTS[rest.length ? `${name}/` : name || "now"];
  return {
    part: known,
    name: name || "now",
    id: rest.join("/"),
    query: Object.fromEntries(new URLSearchParams(given)),
  };
}

function show() {
  const { part, name, id, query } = route();
  for (const link of document.querySelectorAll("nav.side a")) {
    const here = link.getAttribute("href") === `#/${name}`;
    if (here) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "center" });
    } else link.removeAttribute("aria-current");
  }
  if (part && shown?.part === part && shown.id === id) {
    shown.query = query;
    shown.reload();
    return;
  }
  leave();
  if (!part) {
    main.setAttribute("aria-busy", "false");
    render(
      main,
      h("h1", {}, "Nothing here"),
      h("p", {}, "There is no such page. ", h("a", { href: "#/now" }, "Go to Now")),
    );
    return;
  }
  shown = contextOf(part, id, query);
  shown.begin();
}

function leave() {
  shown?.end();
  shown = null;
}

// Where to go from a task, run or rule that is not there.
function elsewhere({ id, problem }) {
  const [list] = location.hash.replace(/^#\/?/, "").split("/");
  return id && problem.status === 404 ? h("a", { href: to(list) }, ` See the ${list} that there are.`) : null;
}

function contextOf(part, id, query) {
  const context = { part, id, query, state: {}, data: null, problem: null };
  let over = false;
  let dirty = false;
  let loading = false;
  let waiting = 0;
  let loaded = 0;
  const signal = new AbortController();

  const draw = framed(() => {
    if (over) return;
    const title = part.title(context);
    document.title = `${title} · scriptrules`;
    const problem =
      context.problem &&
      h("p", { class: "note bad", role: "alert", key: "problem" }, prose(context.problem.message), elsewhere(context));
    if (!context.data) {
      const empty = context.problem ? problem : h("p", { class: "muted", key: "loading" }, "Loading…");
      render(main, h("h1", { key: "title" }, title), empty);
    } else {
      render(main, context.problem?.status ? problem : null, part.view(context.data, context));
    }
    main.setAttribute("aria-busy", String(!context.data && !context.problem));
  });

  async function load() {
    if (over || waiting) return;
    if (loading) {
      dirty = true;
      return;
    }
    loading = true;
    dirty = false;
    const began = performance.now();
    try {
      context.data = await part.load(context, signal.signal);
      if (context.problem?.status === 0) live.again();
      context.problem = null;
      loaded = Date.now();
    } catch (problem) {
      if (over || problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) console.error(problem);
      if (problem.status === 401) return askForToken(context);
      context.problem = problem;
      if (problem.status === 0) showConnection("lost");
      if (problem.status === 404) context.data = null;
    } finally {
      loading = false;
    }
    draw();
    if (over) return;
    const pause = Math.max(PAUSE, 3 * (performance.now() - began));
    waiting = setTimeout(() => {
      waiting = 0;
      if (dirty) load();
    }, pause);
  }

  const soon = () => {
    dirty = true;
    if (!waiting && !loading) load();
  };
  const tick = setInterval(() => {
    if (document.hidden) return;
    if (context.data && part.ticks !== false) draw();
    if (Date.now() - loaded > SLOWLY) soon();
  }, TICK);

  context.draw = draw;
  context.signal = signal.signal;
  context.reload = () => {
    clearTimeout(waiting);
    waiting = 0;
    dirty = true;
    load();
  };
  context.begin = () => {
    part.begin?.(context);
    draw();
    load();
    const filter = part.follows ? part.follows(context) : null;
    live.follow(
      filter,
      (name, event) => {
        if (name && part.event?.(name, event, context) === false) return;
        soon();
      },
      showConnection,
    );
    main.scrollTo?.(0, 0);
    window.scrollTo(0, 0);
  };
  context.end = () => {
    over = true;
    signal.abort();
    clearInterval(tick);
    clearTimeout(waiting);
    live.stop();
    part.end?.(context);
    render(main);
  };
  return context;
}

// ---- who one is, where the server has tokens

function askForToken(context) {
  live.stop();
  showConnection("lost");
  document.title = "Sign in · scriptrules";
  const enter = async (event) => {
    event.preventDefault();
    try {
      await post("api/session", { token: new FormData(event.target).get("token").trim() });
      await begin();
    } catch (problem) {
      toast(problem.message, "bad");
    }
  };
  context.end();
  shown = null;
  render(
    main,
    h("h1", {}, "Sign in"),
    h(
      "form",
      { class: "panel form narrow", onsubmit: enter },
      h(
        "label",
        {},
        "Token",
        h("input", { name: "token", type: "password", required: true, autocomplete: "current-password" }),
      ),
      h(
        "p",
        { class: "muted" },
        "This server has tokens. Whoever runs it makes one with ",
        h("code", {}, "scriptrules token add NAME"),
        ".",
      ),
      h("button", { class: "primary" }, "Sign in"),
    ),
  );
  main.setAttribute("aria-busy", "false");
  main.querySelector("input").focus();
}

// Who asks: by token, or whoever they say they are where there are none.
function showSession() {
  const box = document.querySelector(".about");
  if (!session.known) return;
  const sign = async () => {
    await attempt(() => remove("api/session"));
    location.reload();
  };
  const name = async () => {
    const given = await askFor("Who are you?", [["who", "Name", { value: who() }]], {
      submit: "Save",
      note: "It stands in the audit beside what you do. This server has no tokens, so it is taken on trust.",
    });
    if (given) localStorage.setItem("scriptrules.who", given.who.trim());
    showSession();
  };
  render(
    box,
    h("span", { class: "block" }, `scriptrules ${box.dataset.version}`),
    session.tokens
      ? session.name && [
          h("span", { class: "block" }, `${session.name}, ${session.role}`),
          h("button", { type: "button", class: "plain", onclick: sign }, "Sign out"),
        ]
      : h("button", { type: "button", class: "plain", onclick: name }, `You: ${who() || "somebody"}`),
  );
}

// ---- what is around it

const CONNECTION = {
  live: ["live", "Live: changes are shown as they happen"],
  polling: ["every 2 s", "There are no events now; what is shown is asked for every two seconds"],
  calm: ["every 5 s", "What is shown is asked for every five seconds"],
  lost: ["no server", "The server does not answer; what is shown was known last. It is tried again"],
};

function showConnection(name) {
  const [text, title] = CONNECTION[name];
  const status = document.getElementById("status");
  status.title = title;
  render(status, h("span", { class: `lamp ${name}` }), text);
}

const THEMES = { "": ["auto", "light"], light: ["light", "dark"], dark: ["dark", ""] };

function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "";
  const button = document.getElementById("theme");
  render(button, h("span", { class: "swatch", "aria-hidden": "true" }), THEMES[chosen][0]);
  button.setAttribute("aria-label", `Theme: ${THEMES[chosen][0]}. Switch it`);
  button.onclick = () => {
    const next = THEMES[chosen][1];
    localStorage.setItem("scriptrules.theme", next);
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    showTheme();
  };
}

document.getElementById("search").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = event.target.elements.q.value.trim();
  if (text) location.hash = `${to("search")}?q=${encodeURIComponent(text)}`;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    document.querySelector("#search input").focus();
  } else if (event.key === "Escape" && typing) {
    typing.blur();
  } else if (!typing) {
    listKeys(event);
  }
});

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the route
  main.focus();
});
window.addEventListener("hashchange", show);

async function begin() {
  await learn();
  showSession();
  leave();
  show();
}
showTheme();
begin();

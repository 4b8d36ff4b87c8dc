// What happens, as it happens: one stream of events a window. It is let go while the window is hidden, is resumed
// where it was, and where there is none, whoever follows is told to look again by and by.

const TASK = ["new", "held", "running", "done", "failed", "unmatched", "dropped", "cancelled", "edited"];
const RUN = ["queued", "running", "waiting", "held", "done", "failed", "cancelled"];
const EVENTS = [
  ...TASK.map((state) => `task.${state}`),
  ...RUN.map((state) => `run.${state}`),
  "rules.changed",
  "breakpoints.changed",
  "reset",
];
const POLL = 2000; // milliseconds between looks while there should be events and are none
const CALM = 5000; // and of pages that no event concerns
const AGAIN = 3000; // milliseconds until a stream that was refused is asked for anew

let source = null;
let wanted = null; // {path, take, state}
let last = null; // id of the last event
let polling = 0;
let retrying = 0;

// filter: what `api/events` takes, null for nothing. take(name, event): one event, or (null) "look again".
// state(text): "live", "polling", or "calm" where no event concerns what is followed.
export function follow(filter, take, state) {
  stop();
  wanted = { filter, take, state };
  open();
}

export function stop() {
  close();
  wanted = null;
  last = null;
}

// A server answers again.
export function again() {
  if (!wanted) return;
  close();
  open();
}

function close() {
  source?.close();
  source = null;
  clearInterval(polling);
  clearTimeout(retrying);
  polling = retrying = 0;
}

function open() {
  if (!wanted || document.hidden) return;
  if (!wanted.filter) return poll("calm", CALM);
  const given = new URLSearchParams(Object.entries(wanted.filter).filter(([, value]) => value));
  if (last) given.set("after", last);
  const opened = (source = new EventSource(new URL(`api/events?${given}`, document.baseURI)));
  opened.onopen = () => {
    clearInterval(polling);
    polling = 0;
    wanted?.state("live");
    wanted?.take(null); // what happened before the stream stood
  };
  opened.onerror = () => {
    if (source !== opened) return;
    wanted.take(null);
    poll("polling", POLL);
    if (opened.readyState === EventSource.CLOSED) {
      opened.close();
      retrying = setTimeout(open, AGAIN);
    }
  };
  const heard = (event) => {
    if (event.lastEventId) last = event.lastEventId;
    wanted?.take(event.type, event);
  };
  for (const name of EVENTS) opened.addEventListener(name, heard);
}

function poll(state, pause) {
  if (polling) return;
  wanted.state(state);
  polling = setInterval(() => wanted.take(null), pause);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) close();
  else if (wanted) {
    open();
    wanted.take(null);
  }
});

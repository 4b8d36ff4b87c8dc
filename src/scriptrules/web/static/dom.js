// Elements from data: `h` describes one, `render` makes what is there equal to what is described, in place, so that
// focus, scrolling and half-written text stay. Text becomes text nodes; nothing here ever parses markup.
//
// Tried and rejected: a template language (a second place where text must be escaped), and replacing whole regions
// (a page that changes every second would take the focus away every second).

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "path", "rect", "circle", "line", "text", "polyline", "title", "defs", "marker"]);
const PROPERTIES = new Set(["value", "checked", "disabled", "open", "hidden", "selected", "indeterminate"]);
const DESCRIBED = Symbol("described");
const HANDLERS = Symbol("handlers");
const NODES = Symbol("nodes");

export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, key: props?.key, children: flat(children) };
}

function flat(list, found = []) {
  for (const one of list) {
    if (Array.isArray(one)) flat(one, found);
    else if (one === null || one === undefined || one === false || one === true) continue;
    else found.push(typeof one === "object" ? one : { text: String(one) });
  }
  return found;
}

export function render(parent, ...children) {
  reconcile(parent, flat(children));
}

function reconcile(parent, wanted) {
  const before = parent[NODES] ?? [];
  const keyed = new Map();
  const others = [];
  for (const node of before) {
    const key = node[DESCRIBED].key;
    if (key === undefined) others.push(node);
    else keyed.set(key, node);
  }
  const kept = new Set();
  let next = 0;
  const nodes = wanted.map((described) => {
    const node = described.key === undefined ? others[next++] : keyed.get(described.key);
    if (node && !kept.has(node) && node[DESCRIBED].tag === described.tag) {
      kept.add(node);
      update(node, described);
      return node;
    }
    return create(described, parent);
  });
  for (const node of before) if (!kept.has(node)) node.remove();
  let at = parent.firstChild;
  for (const node of nodes) {
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  parent[NODES] = nodes;
}

function create(described, parent) {
  if (described.tag === undefined) {
    const node = document.createTextNode(described.text);
    node[DESCRIBED] = described;
    return node;
  }
  const drawn = described.tag === "svg" || (parent.namespaceURI === SVG && SVG_TAGS.has(described.tag));
  const node = drawn ? document.createElementNS(SVG, described.tag) : document.createElement(described.tag);
  node[DESCRIBED] = { props: {} };
  setProps(node, {}, described.props);
  if (!described.props.opaque) reconcile(node, described.children);
  node[DESCRIBED] = described;
  if (described.tag === "select" && "value" in described.props) node.value = described.props.value;
  described.props.ref?.(node);
  return node;
}

function update(node, described) {
  const before = node[DESCRIBED];
  if (before === described) return;
  node[DESCRIBED] = described;
  if (described.tag === undefined) {
    if (before.text !== described.text) node.data = described.text;
    return;
  }
  if (!described.props.opaque) reconcile(node, described.children);
  setProps(node, before.props, described.props);
}

function setProps(node, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) setProp(node, name, before[name], undefined);
  for (const [name, value] of Object.entries(after)) setProp(node, name, before[name], value);
}

function setProp(node, name, before, value) {
  if (name === "key" || name === "ref" || name === "opaque" || before === value) return;
  if (name.startsWith("on")) {
    const type = name.slice(2).toLowerCase();
    node[HANDLERS] ??= {};
    if (!(type in node[HANDLERS])) node.addEventListener(type, (event) => node[HANDLERS][type]?.(event));
    node[HANDLERS][type] = value;
  } else if (name === "style") {
    for (const [property, text] of Object.entries(value ?? {})) {
      if (before?.[property] !== text) node.style.setProperty(property, text);
    }
  } else if (PROPERTIES.has(name)) {
    node[name] = value ?? (name === "value" ? "" : false);
  } else if (value === undefined || value === null || value === false) {
    node.removeAttribute(name);
  } else {
    node.setAttribute(name, value === true ? "" : value);
  }
}

// Calls `work` in the next animation frame, once, however often it was asked for meanwhile.
export function framed(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}

// Elements of the page. Names of a model are only ever set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && !key.startsWith("aria")) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

export function table(columns, rows) {
  const head = make("tr", {}, ...columns.map((c) => make("th", {}, c)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", typeof cell === "number" ? { className: "number" } : {},
    typeof cell === "number" ? cell.toLocaleString("en") : cell))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

/** Show a result: `good` true or false colours it, undefined does not. */
export function say(id, text, good) {
  $(id).className = good === undefined ? "answer" : `answer ${good ? "good" : "bad"}`;
  $(id).textContent = text;
}

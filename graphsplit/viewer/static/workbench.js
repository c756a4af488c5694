// The workbench's page. Names of a model are only ever set as text, never as HTML.

import { $, make, say, table } from "./elements.js";
import { ask, finished } from "./server.js";

const SVG = "http://www.w3.org/2000/svg";

/**
 * `cut`: as the server takes it. `target`: the list that a chosen tensor is added to, "inputs" or the number of an end.
 * `plan`: number of the plan of this cut; null while there is none. `revision`: counts changes of the cut.
 * `compiler`: key of the target that was chosen, or null. `cuts`: suggestions for it. `fitted`: cuts that compilers were asked about.
 */
const state = { cut: { inputs: [], ends: [[]] }, target: 0, plan: null, revision: 0, known: new Map(), cuts: [], start: null, explorer: null,
  compiler: null, marks: "", targets: [], fitted: new Map() };

function known(tensor) {
  return state.known.get(tensor)?.text ?? "";
}

function remember(tensors) {
  for (const t of tensors) state.known.set(t.tensor, t);
}

// The cut

function lists() {
  const several = state.cut.ends.length > 1;
  return [
    ...(several ? [] : [{ key: "inputs", title: "main starts at", list: state.cut.inputs }]),
    ...state.cut.ends.map((list, i) => ({ key: i, title: several ? `part_${i} ends at` : "main ends at", list })),
  ];
}

function drawCut() {
  $("where").replaceChildren(...lists().map(({ key, title }) => make("label", { className: "check" },
    make("input", { type: "radio", name: "where", value: String(key), checked: key === state.target, onchange: () => { state.target = key; } }),
    title)));
  $("borders").replaceChildren(...lists().filter(({ list, key }) => list.length || key !== "inputs").map(({ title, list, key }) =>
    make("div", { className: "group" }, make("h3", {}, title),
      ...(list.length ? list.map((t) => make("div", { className: "tensor" },
        make("span", {}, t, make("small", {}, known(t))),
        make("button", { type: "button", "aria-label": `drop ${t}`, title: "drop", onclick: () => drop(key, t) }, "✕")))
        : [make("p", { className: "quiet" }, "nothing chosen")]))));
}

function listOf(key) {
  return key === "inputs" ? state.cut.inputs : state.cut.ends[key];
}

function drop(key, tensor) {
  const list = listOf(key);
  list.splice(list.indexOf(tensor), 1);
  changed();
}

function choose(tensor) {
  const list = listOf(state.target) ?? state.cut.ends[0];
  if (!list.includes(tensor)) list.push(tensor);
  changed();
}

function changed() {
  state.revision += 1;
  if (state.target !== "inputs" && state.target >= state.cut.ends.length) state.target = 0;
  setPlan(null);
  for (const id of ["verdict", "answer"]) say(id, ""); // a proof belongs to the plan that was verified
  drawCut();
  drawOrigin();
  drawSuggestions();
  plan();
}

function setPlan(number) {
  state.plan = number;
  document.body.classList.toggle("stale", number === null); // views of an earlier plan
  for (const id of ["verify", "crop", "split"]) $(id).disabled = number === null;
}

async function plan() {
  const revision = state.revision;
  $("busy").textContent = "planning …";
  try {
    const planned = await ask("plan", { cut: state.cut, repair: $("repair").value, target: state.compiler });
    if (revision !== state.revision) return; // the cut has been changed since
    setPlan(planned.plan);
    if (planned.marks !== state.marks) dropFrame(); // the heat map leaves out what is marked, and is loaded once
    state.marks = planned.marks;
    remember([...planned.borders, ...planned.sections.flatMap((s) => [...s.inputs, ...s.outputs])]);
    $("problem").hidden = true;
    drawPlan(planned);
    drawCut();
    showGraph();
  } catch (error) {
    if (revision !== state.revision) return;
    $("problem").textContent = error.message;
    $("problem").hidden = false;
    $("plan").replaceChildren();
  } finally {
    if (revision === state.revision) $("busy").textContent = "";
  }
}

function drawPlan(planned) {
  const added = planned.added.length
    ? [make("details", { open: planned.added.length < 5 }, make("summary", {}, `${planned.added.length} added to the border`),
      table(["tensor", "read by", "reason"], planned.added.map((a) => [a.tensor, a.consumer, a.reason])))] : [];
  const again = planned.replicated.length
    ? [make("details", {}, make("summary", {}, `${planned.replicated.length} nodes computed in more than one section`),
      make("p", { className: "quiet" }, planned.replicated.slice(0, 40).join(", ")))] : [];
  const crossing = planned.borders.length
    ? `${planned.borders.length} ${planned.borders.length === 1 ? "tensor crosses" : "tensors cross"}, ${planned.bytes_text} per frame`
    : "one section, nothing crosses";
  const borders = planned.borders.map((b) => [make("span", {}, b.tensor, make("small", { className: "quiet" }, b.text))]);
  $("plan").replaceChildren(
    table(["section", "nodes"], planned.sections.map((s) => [s.name, s.nodes])),
    make("p", { id: "crossing" }, crossing),
    ...(borders.length ? [table(["border tensor"], borders)] : []),
    ...(planned.target ? [drawAnswer(planned.target)] : []),
    ...added, ...again, ...planned.notes.map((note) => make("p", { className: "quiet" }, note)));
  drawCommand(planned);
  $("legend").replaceChildren(...planned.legend.map(({ name, back, frame }) => {
    const square = document.createElementNS(SVG, "svg");
    const box = document.createElementNS(SVG, "rect");
    for (const [k, v] of Object.entries({ width: 12, height: 12, rx: 2, fill: back, stroke: frame })) box.setAttribute(k, v);
    square.append(box);
    return make("li", {}, square, name);
  }));
  const drawn = new DOMParser().parseFromString(planned.svg, "image/svg+xml").documentElement;
  $("picture").replaceChildren(document.importNode(drawn, true));
}

/** What a compiler, or the table in its place, takes of this cut. */
function drawAnswer(answer) {
  const rounds = answer.rounds.length > 1
    ? [make("details", {}, make("summary", {}, `${answer.rounds.length} rounds`), make("ol", { className: "rounds" }, ...answer.rounds.map((r, i) =>
      make("li", {}, `${i + 1}. ${r.taken} of ${r.asked} taken`, ...(r.tied.length ? [make("small", { className: "quiet" },
        `tied to the host: ${r.tied.map((g) => `${g.op}${g.count > 1 ? ` ×${g.count}` : ""} (${g.reason})`).join("; ")}`)] : [])))))] : [];
  return make("div", { id: "taken" },
    make("p", { className: answer.whole ? "good" : "bad" }, `${answer.whole ? "✔" : "✘"} ${answer.summary}`),
    ...(answer.reason ? [make("p", { className: "quiet" }, answer.reason)] : []),
    ...rounds, ...drawRefused(answer.refused, "left on the host"));
}

/** Refused ops by type and reason. */
function drawRefused(groups, what) {
  if (!groups.length) return [];
  const count = groups.reduce((sum, g) => sum + g.count, 0);
  return [make("details", {}, make("summary", {}, `${count} ${count === 1 ? "op" : "ops"} ${what}`),
    make("ul", { className: "refused" }, ...groups.map((g) => make("li", {}, `${g.op}${g.count > 1 ? ` ×${g.count}` : ""}: ${g.reason}`,
      make("small", { className: "quiet" }, g.tensors.join(", ") + (g.count > g.tensors.length ? ", …" : ""))))))];
}

function drawCommand(planned) {
  if (!planned.command) {
    $("command").replaceChildren(...(planned.no_command ? [make("p", { className: "quiet" }, `No command: ${planned.no_command}.`)] : []));
    return;
  }
  const text = make("code", {}, planned.command);
  const copy = make("button", { type: "button", onclick: async () => {
    try {
      await navigator.clipboard.writeText(planned.command);
      copy.textContent = "Copied";
    } catch { // not allowed in this frame
      getSelection().selectAllChildren(text);
    }
  } }, "Copy");
  $("command").replaceChildren(make("p", { className: "row" }, make("span", { className: "quiet" }, "The same on the command line"), copy),
    make("pre", {}, text));
}

/** A text by which equal cuts are equal; lists without tensors do not count. */
function keyOf(inputs, ends) {
  return JSON.stringify([inputs, ends.filter((list) => list.length)]);
}

function isCurrent(suggestion) {
  return keyOf(suggestion.inputs, endsOf(suggestion)) === keyOf(state.cut.inputs, state.cut.ends);
}

function endsOf(suggestion) {
  return suggestion.ends.map((end) => end.map((o) => o.tensor));
}

/** The cut that the chosen compiler was asked about, if there is one, before the suggestions. */
function offered() {
  const fitted = state.fitted.get(state.compiler);
  return fitted ? [fitted, ...state.cuts] : state.cuts;
}

/** Where the cut came from: as the workbench was opened, a suggestion, or the tensors that were chosen. */
function drawOrigin() {
  const key = keyOf(state.cut.inputs, state.cut.ends);
  const suggestion = offered().find(isCurrent);
  const origin = key === state.start.key ? state.start.origin
    : suggestion ? `${suggestion.source} ${suggestion.name}: ${suggestion.reason}`
      : key === keyOf([], []) ? "none, one section" : "chosen here";
  $("origin").textContent = `cut: ${origin}`;
  $("origin").title = origin;
}

// Suggestions

function drawSuggestions() {
  if (!offered().length) return;
  $("suggestions").replaceChildren(...offered().map((c) => make("li", {}, make("button",
    { type: "button", "aria-pressed": String(isCurrent(c)), onclick: () => take(c) },
    `${c.source}: ${c.name}`,
    make("small", {}, `${sections(c, false)}; ${c.bytes_text} per frame`),
    make("small", { className: "share" }, left(c)),
    make("small", { className: "clamped", title: c.reason }, c.reason),
    make("small", { className: "clamped", title: ends(c).join("\n") }, ends(c).join(", "))))));
}

function sections(suggestion, hosts) {
  const some = Object.entries(suggestion.nodes).filter(([s]) => suggestion.hosts.includes(s) === hosts);
  const nodes = (n) => `${n.toLocaleString("en")} ${n === 1 ? "node" : "nodes"}`;
  if (some.length > 3) return `${some.length} sections with ${nodes(some.reduce((sum, [, n]) => sum + n, 0))}`;
  return some.map(([s, n]) => `${s} ${nodes(n)}`).join(", ");
}

/** What a suggestion puts on the accelerator, of the multiplications, and what it leaves on the host. */
function left(suggestion) {
  const host = sections(suggestion, true);
  const percent = suggestion.share === null ? null : suggestion.share * 100;
  const exact = percent !== null && ((percent > 0 && percent < 1) || (percent > 99 && percent < 100));
  const some = percent === null ? [] : [`on the accelerator: ${exact ? percent.toFixed(2) : Math.round(percent)} % of the multiplications`];
  return [...some, host ? `on the host: ${host}` : "nothing on the host"].join("; ");
}

function ends(suggestion) {
  return [...suggestion.inputs.map((t) => `from ${t}`), ...endsOf(suggestion).flat()];
}

function take(suggestion) {
  remember(suggestion.ends.flat());
  state.cut = { inputs: [...suggestion.inputs], ends: suggestion.ends.length ? endsOf(suggestion) : [[]] };
  state.target = 0;
  changed();
}

async function study() {
  const compiler = state.compiler;
  state.cuts = [];
  $("refused").replaceChildren();
  $("suggestions").replaceChildren(make("li", { className: "quiet" }, "searching for cuts …"));
  const found = await ask("study", { target: compiler }).then(({ job }) => finished(job)).catch((error) => ({ error: error.message }));
  if (compiler !== state.compiler) return; // another one has been chosen since
  state.cuts = found.cuts ?? [];
  if (found.table) $("refused").replaceChildren(...drawRefused(found.table.refused, `of ${found.table.asked} refused by its table`));
  if (offered().length) drawSuggestions();
  else $("suggestions").replaceChildren(make("li", { className: "quiet" }, found.error ?? found.reason));
  drawOrigin();
}

// Targets

function drawTargets() {
  $("target").replaceChildren(make("option", { value: "" }, "no particular compiler"), ...state.targets.map((t) =>
    make("option", { value: t.key, disabled: Boolean(t.unfit), title: t.unfit || t.source }, t.name)));
  $("target").value = state.compiler ?? "";
  const reasons = new Map();
  for (const t of state.targets.filter((t) => t.unfit)) {
    const reason = t.unfit.replaceAll(t.name, "it");
    reasons.set(reason, [...(reasons.get(reason) ?? []), t.name]);
  }
  $("unfit").replaceChildren(...(reasons.size ? [make("details", {},
    make("summary", { className: "quiet" }, `${state.targets.filter((t) => t.unfit).length} targets do not fit this model`),
    ...[...reasons].map(([reason, names]) => make("p", { className: "quiet" }, `${names.join(", ")}: ${reason}`)))] : []));
}

function drawTarget() {
  const chosen = state.targets.find((t) => t.key === state.compiler);
  $("fit").hidden = $("islands-label").hidden = !chosen;
  $("fit").textContent = chosen && !chosen.asks ? "Cut by its table" : "Ask the compiler";
  $("note").hidden = !chosen?.note;
  $("note").textContent = chosen?.note ?? "";
}

function chooseTarget(key) {
  state.compiler = key || null;
  say("said", "");
  drawTarget();
  study();
  changed();
}

/** Cut until the compiler takes all of main. The cut is taken into the page unless it was changed meanwhile. */
async function fit() {
  const [compiler, revision] = [state.compiler, state.revision];
  $("fit").disabled = true;
  say("said", "asking the compiler, cutting again where it refuses …");
  try {
    const { job } = await ask("fit", { target: compiler, islands: $("islands").checked, repair: $("repair").value });
    const found = await finished(job);
    if (found.error) throw new Error(found.error);
    state.fitted.set(compiler, found.cut);
    if (compiler !== state.compiler) return;
    say("said", `${found.answer.whole ? "✔" : "✘"} ${found.answer.summary}`, found.answer.whole);
    if (revision === state.revision) take(found.cut);
    else drawSuggestions();
  } catch (error) {
    if (compiler === state.compiler) say("said", error.message, false);
  } finally {
    $("fit").disabled = false;
  }
}

// The field with completion

let typed = 0;
async function search() {
  const query = $("search").value.trim();
  const number = ++typed;
  if (!query) return close();
  await new Promise((resolve) => setTimeout(resolve, 120));
  if (number !== typed) return;
  const answer = await ask(`tensors?q=${encodeURIComponent(query)}`).catch(() => ({ tensors: [], more: 0 }));
  if (number !== typed) return;
  remember(answer.tensors);
  const more = answer.more ? [make("li", { className: "quiet", "aria-disabled": "true" }, `${answer.more} more`)] : [];
  const none = answer.tensors.length ? [] : [make("li", { className: "quiet", "aria-disabled": "true" }, "no tensor of that name")];
  $("matches").replaceChildren(...answer.tensors.map((t, i) => make("li",
    { role: "option", id: `match-${i}`, "aria-selected": "false", onmousedown: (e) => { e.preventDefault(); pick(t.tensor); } },
    t.tensor, make("small", {}, t.text))), ...more, ...none);
  $("matches").hidden = false;
  $("search").setAttribute("aria-expanded", "true");
  $("search").removeAttribute("aria-activedescendant");
}

function close() {
  $("matches").hidden = true;
  $("search").setAttribute("aria-expanded", "false");
  $("search").removeAttribute("aria-activedescendant");
}

function pick(tensor) {
  $("search").value = "";
  typed += 1;
  close();
  choose(tensor);
}

function move(by) {
  const options = [...$("matches").querySelectorAll("[role=option]")];
  if (!options.length || $("matches").hidden) return;
  const at = options.findIndex((o) => o.getAttribute("aria-selected") === "true");
  const next = options[(at + by + options.length) % options.length];
  for (const o of options) o.setAttribute("aria-selected", String(o === next));
  $("search").setAttribute("aria-activedescendant", next.id);
  next.scrollIntoView({ block: "nearest" });
}

function keyed(event) {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    move(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Escape") {
    close();
  } else if (event.key === "Enter") {
    const option = $("matches").querySelector("[aria-selected=true]") ?? $("matches").querySelector("[role=option]");
    if (option && !$("matches").hidden) pick(option.firstChild.textContent);
  }
}

// The explorer, in a frame from the same server. It sends the selected node and receives graphs by message.

function showGraph() {
  if (!state.explorer || state.plan === null) return;
  if ($("graph").hidden) {
    state.stale = true; // a hidden frame draws nothing
    return;
  }
  state.stale = false;
  if (!state.frame) {
    // Light even on a dark page, unless the user chose otherwise: the tints of its nodes need dark text, which follows its theme.
    try {
      if (!localStorage.getItem("model_explorer_theme")) localStorage.setItem("model_explorer_theme", "light");
    } catch { /* storage is disabled */ }
    const data = { models: [{ url: `graphs://plan/${state.plan}` }], nodeData: [`node_data://estimated operations/${state.plan}`], nodeDataTargets: [""] };
    state.frame = make("iframe", { title: "graph", src: `explorer/?data=${encodeURIComponent(JSON.stringify(data))}` });
    state.shown = state.plan;
    $("graph").append(state.frame);
  } else if (state.ready && state.shown !== state.plan) {
    sendGraph();
  }
}

function dropFrame() {
  state.frame?.remove();
  state.frame = null;
  state.ready = false;
}

async function sendGraph() {
  const number = state.plan;
  if (number === null) return; // the plan to come will be sent
  const graph = await ask(`graph?plan=${number}`).catch(() => null);
  if (!graph || number !== state.plan) return;
  state.shown = number;
  // Costs stay loaded: they are stored by the names of tensors.
  const message = { cmd: "model-explorer-load-graph-collections", graphCollections: { ...graph, label: "plan" }, fileName: "plan" };
  state.frame.contentWindow.postMessage(message, location.origin);
}

async function heard(event) {
  if (event.origin !== location.origin || event.source !== state.frame?.contentWindow) return;
  if (event.data?.cmd === "model-explorer-ready") {
    state.ready = true;
    if (state.shown !== state.plan) sendGraph();
  } else if (event.data?.cmd === "model-explorer-node-selected") {
    const answer = await ask(`selected?node=${encodeURIComponent(String(event.data.nodeId))}&plan=${state.shown}`)
      .catch(() => ({ tensors: [], refused: null }));
    remember(answer.tensors);
    $("selected").hidden = !answer.tensors.length;
    $("selected").replaceChildren("Selected in the graph:", ...(answer.refused ? [make("p", { className: "bad" }, answer.refused)] : []),
      ...answer.tensors.slice(0, 6).map((t) =>
      make("button", { type: "button", onclick: () => choose(t.tensor) }, `choose ${t.tensor} (${t.text})`)));
  }
}

function show(name) {
  for (const tab of ["graph", "picture"]) {
    $(tab).hidden = tab !== name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(tab === name));
    $(`tab-${tab}`).tabIndex = tab === name ? 0 : -1;
  }
  showGraph();
}

// Verification and files

/**
 * Run a job of the current cut and say how it ended.
 *
 * If the cut changes meanwhile, a verdict is dropped, because it would be read as one on the new cut. Files were written all
 * the same, so they are reported, as those of an earlier cut.
 */
async function work(button, id, doing, begin, report) {
  const revision = state.revision;
  const finish = (text, good) => {
    if (revision === state.revision) say(id, text, good);
    else if (id !== "verdict") say(id, `earlier cut: ${text}`, good);
  };
  button.disabled = true;
  say(id, doing);
  try {
    let answer = await begin();
    if (answer.job) answer = await finished(answer.job);
    if (answer.error) throw new Error(answer.error);
    finish(...report(answer));
  } catch (error) {
    finish(error.message, false);
  } finally {
    button.disabled = state.plan === null;
  }
}

function listen() {
  $("search").addEventListener("input", search);
  $("search").addEventListener("keydown", keyed);
  $("search").addEventListener("blur", close);
  $("repair").addEventListener("change", changed);
  $("target").addEventListener("change", () => chooseTarget($("target").value));
  $("fit").addEventListener("click", fit);
  $("another").addEventListener("click", () => {
    state.cut = { inputs: [], ends: [...state.cut.ends, []] };
    state.target = state.cut.ends.length - 1;
    changed();
    $("search").focus();
  });
  $("clear").addEventListener("click", () => {
    state.cut = { inputs: [], ends: [[]] };
    state.target = 0;
    changed();
  });
  $("verify").addEventListener("click", () => work($("verify"), "verdict", "running whole and sections …",
    () => ask("verify", { plan: state.plan }), (a) => [`${a.equal ? "✔" : "✘"} ${a.summary}`, a.equal]));
  $("crop").addEventListener("click", () => work($("crop"), "answer", "saving …",
    () => ask("save_crop", { cut: state.cut, repair: $("repair").value, name: $("name").value }), (a) => [`✔ wrote ${a.written}`, true]));
  $("split").addEventListener("click", () => work($("split"), "answer", $("proof").checked ? "verifying, then writing …" : "writing …",
    () => ask("split", { plan: state.plan, name: $("name").value, verify: $("proof").checked }),
    (a) => [`✔ wrote ${a.written}: ${a.files.join(", ")}; ${a.summary ?? "not verified"}`, true]));
  for (const tab of ["graph", "picture"]) $(`tab-${tab}`).addEventListener("click", () => show(tab));
  document.querySelector("[role=tablist]").addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = $("graph").hidden ? "graph" : "picture";
    show(other);
    $(`tab-${other}`).focus();
  });
  addEventListener("message", heard);
}

async function begin() {
  listen();
  const first = await ask("state");
  document.title = `${first.model} · graphsplit`;
  $("model").textContent = first.model;
  $("about").textContent = `${first.format}, ${first.nodes.toLocaleString("en")} nodes`;
  $("folder").textContent = first.folder;
  $("name").value = `${first.model.replace(/\.[^.]*$/, "").replace(/[^\w.+-]/g, "_").replace(/^[^A-Za-z0-9]+/, "") || "model"}_split`;
  $("repair").value = first.repair;
  remember([...first.inputs, ...first.outputs]);
  state.cut = { inputs: first.cut.inputs, ends: first.cut.ends.length ? first.cut.ends : [[]] };
  state.start = { key: keyOf(first.cut.inputs, first.cut.ends), origin: first.origin };
  state.explorer = first.explorer;
  $("outside").hidden = first.trusted || !first.reaches_outside.length;
  $("outside").textContent = `Running this model may reach files, the network or Python (${first.reaches_outside.join(", ")}), so `
    + "Verify refuses. If you trust it, start again with trust: graphsplit view --trust, or gs.view(…, trust=True).";
  $("no-explorer").hidden = first.explorer;
  state.targets = first.targets;
  state.compiler = first.target;
  drawTargets();
  drawTarget();
  drawCut();
  drawOrigin();
  setPlan(null);
  await Promise.all([plan(), study()]);
  if (first.explorer) show("graph"); // now with the estimated costs
}

begin().catch((error) => {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
});

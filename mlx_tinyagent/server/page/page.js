"use strict";

// Shows a run as it happens. All text of others goes through textContent; the
// page's policy (Trusted Types) forbids anything else.

const BOX = { width: 250, height: 46, right: 54, below: 14 };
const find = (id) => document.getElementById(id);
const conversation = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
  byte.toString(16).padStart(2, "0")).join("");

let token = sessionStorage.getItem("token") || "";

function takeToken() { // the part behind # never leaves the browser
  if (location.hash.length < 2) return;
  token = decodeURIComponent(location.hash.slice(1));
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname);
}

let run = null; // { id, query, stop, digest, number }

function make(name, className, text) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function post(path, body, signal) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
    credentials: "omit",
    signal,
  });
}

async function failure(response) {
  if (response.status === 401) {
    return "The token is missing or of an earlier start: open the address that serve printed.";
  }
  try {
    return (await response.json()).error.message;
  } catch {
    return `The server answered with status ${response.status}.`;
  }
}

// The graph: one column per depth, an arrow for every result that is read

function drawGraph(calls) {
  const place = new Map();
  const rows = [];
  const depth = new Map();
  for (const call of calls) {
    const column = Math.max(-1, ...call.needs.map((k) => depth.get(k) ?? -1)) + 1;
    depth.set(call.id, column);
    const row = rows[column] ?? 0;
    rows[column] = row + 1;
    place.set(call.id, [4 + column * (BOX.width + BOX.right), 4 + row * (BOX.height + BOX.below)]);
  }
  const width = 8 + rows.length * (BOX.width + BOX.right) - BOX.right;
  const height = 8 + Math.max(...rows) * (BOX.height + BOX.below) - BOX.below;
  const tip = draw("marker", { id: "tip", viewBox: "0 0 8 8", refX: 8, refY: 4, markerWidth: 7,
    markerHeight: 7, orient: "auto" }, draw("path", { d: "M0 0L8 4L0 8z" }));
  const graph = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" },
    draw("title", {}, calls.map((call) => `${call.id} ${call.words}` +
      (call.needs.length ? ` after ${call.needs.join(", ")}` : "")).join("; ")),
    draw("defs", {}, tip));
  for (const call of calls) {
    const [x, y] = place.get(call.id);
    for (const need of call.needs) {
      const [fromX, fromY] = place.get(need);
      const [x1, y1, y2] = [fromX + BOX.width, fromY + BOX.height / 2, y + BOX.height / 2];
      const middle = (x1 + x) / 2;
      graph.append(draw("path", { d: `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x} ${y2}`,
        "marker-end": "url(#tip)" }));
    }
    const args = call.args.filter((value) => value !== "" && value !== "None" && value !== "[]");
    graph.append(draw("g", { "data-step": call.id },
      draw("rect", { x, y, width: BOX.width, height: BOX.height, rx: 7 }),
      draw("text", { x: x + 10, y: y + 19 }, cut(`${call.id}. ${call.words}`, 32)),
      draw("text", { x: x + 10, y: y + 36, class: "args" }, cut(args.join(", "), 36)),
      draw("title", {}, args.join(", "))));
  }
  find("graph").replaceChildren(graph);
}

function cut(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}\u2026` : text;
}

function mark(id, state, text) {
  const step = find("graph").querySelector(`[data-step="${Number(id)}"]`);
  if (step === null) return;
  step.setAttribute("class", state);
  if (text) step.querySelector(".args").textContent = cut(text, 36);
  if (text) step.querySelector("title").textContent = text;
}

// What a run tells

const told = {
  run(event) { run.id = event.run; },
  text(event) { find("text").textContent = event.text; },
  plan(event) {
    state("Checking.");
    if (event.calls.length) drawGraph(event.calls);
  },
  approval(event) {
    state("Waiting for your answer.");
    run.digest = event.digest;
    find("digest").textContent = event.digest.slice(0, 12);
    find("steps").replaceChildren(...event.steps.map(shownStep));
    find("approval").hidden = false;
    find("no").focus(); // Enter refuses
  },
  question(event) {
    state("Waiting for your answer.");
    run.number = event.number;
    find("asked").textContent = event.text;
    const named = event.candidates ?? event.choices ?? [];
    find("choices").replaceChildren(...named.map((label, place) => {
      const button = make("button", "", label);
      button.type = "button";
      button.addEventListener("click", () => answer(event.candidates ? place : label));
      return button;
    }));
    find("own").parentElement.querySelector("label").hidden = Boolean(event.candidates);
    find("own").hidden = Boolean(event.candidates);
    find("question").hidden = false;
  },
  started(event) { state("Running."); mark(event.id, "running"); },
  finished(event) { mark(event.id, event.status === "ok" ? "ok" : "bad", event.text); },
  reply(event) { note(event.reply, ""); },
  error(event) { note(event.message, "error"); },
};

function shownStep(step) {
  const item = make("li");
  item.value = step.id;
  item.append(make("strong", "", step.words), " ", make("span", "effect", step.effect));
  if (step.told) item.append(make("p", step.runs ? "" : step.changes ? "held" : "", step.told));
  const list = make("dl");
  for (const [name, value] of step.args) list.append(make("dt", "", name), make("dd", "", value));
  item.append(list, ...step.warnings.map((text) => make("p", "warning", `\u26a0 ${text}`)));
  return item;
}

function state(text) { find("state").textContent = text; }

function note(text, className) {
  const entry = make("article");
  entry.append(make("p", "said", run.query), make("p", className, text));
  find("log").prepend(entry);
}

function busy(on) {
  find("send").disabled = on;
  find("stop").hidden = !on;
  if (!on) {
    find("approval").hidden = find("question").hidden = true;
    state("Ready.");
  }
}

async function begin(query) {
  run = { query, stop: new AbortController() };
  find("title").textContent = query;
  find("text").textContent = "";
  find("graph").replaceChildren();
  find("work").hidden = false;
  busy(true);
  state("Planning.");
  try {
    const response = await post("/run", { query, conversation }, run.stop.signal);
    if (!response.ok) note(await failure(response), "error");
    else await read(response.body);
  } catch (error) {
    note(error.name === "AbortError" ? "Stopped." : "The server cannot be reached.", "error");
  }
  busy(false);
  find("query").focus();
}

async function read(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const event = JSON.parse(line.slice(6));
      if (Object.hasOwn(told, event.event)) told[event.event](event);
    }
  }
}

async function say(path, body) {
  const response = await post(path, { run: run.id, ...body });
  if (!response.ok) note(await failure(response), "error");
}

function decide(approve) {
  find("approval").hidden = true;
  say("/approve", { digest: run.digest, approve });
}

function answer(value) {
  find("question").hidden = true;
  find("own").value = "";
  say("/answer", { number: run.number, answer: value });
}

find("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = find("query").value.trim();
  if (!query || find("send").disabled) return;
  find("query").value = "";
  begin(query);
});
find("stop").addEventListener("click", () => run.stop.abort());
find("yes").addEventListener("click", () => decide(true));
find("no").addEventListener("click", () => decide(false));
find("none").addEventListener("click", () => answer(null));
find("answer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (find("own").value.trim()) answer(find("own").value.trim());
});
find("query").focus();
window.addEventListener("hashchange", takeToken);
takeToken();

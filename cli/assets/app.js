"use strict";
// Everything that comes from a payload is set as text, never as markup.
const main = document.getElementById("main");
const SYMBOLS = { success: "✓", failure: "✗", error: "✗", timeout: "⧖", cancellation: "⏹", skip: "–" };

function el(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") node.style.cssText = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((it) => it !== null && it !== undefined && it !== ""));
  return node;
}
const link = (url, text) => /^https?:\/\//.test(url) ? el("a", { href: url, rel: "noopener noreferrer", target: "_blank" }, text) : text;
const ms = (nanos) => Number(BigInt(nanos) / 1000n) / 1000;

function took(milliseconds) {
  const s = milliseconds / 1000;
  if (s < 1) return `${Math.round(milliseconds)} ms`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const pad = (n) => String(n).padStart(2, "0");
  if (s < 3600) return `${Math.floor(s / 60)} min ${pad(Math.floor(s % 60))} s`;
  return `${Math.floor(s / 3600)} h ${pad(Math.floor(s / 60) % 60)} min`;
}
function ago(time) {
  const s = (Date.now() - time) / 1000;
  if (s < 60) return "just now";
  if (s < 3600) return `${Math.floor(s / 60)} min ago`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ago`;
  return new Date(time).toLocaleDateString();
}
const absolute = (time) => new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
function badge(result, role) {
  const known = SYMBOLS[result] ? result : "unknown";
  // What is no run has no result to wait for.
  const said = result || { ping: "ping", event: "event", pull_request: "pull request" }[role] || "no result yet";
  return el("span", { class: `badge ${known}` }, `${SYMBOLS[result] || "·"} ${said}`);
}

// A rerun is a trace of its own.
const attempt = (it) => Number(it.attempt) > 1 ? el("span", { class: "attempt" }, `attempt ${it.attempt}`) : "";

// ---- list
let etag = null;
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("/api/traces", { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(answer.status);
    etag = answer.headers.get("etag");
    showList(await answer.json());
  } catch { status("spanhook does not answer; is it still running?"); }
}
function status(text) { document.getElementById("status").textContent = text; }
function showStatus(it) {
  const parts = [it.forwarding_to ? `forwarding to ${it.forwarding_to}` : "showing traces here, no Collector configured"];
  if (it.queued) parts.push(`${it.queued} queued`);
  if (it.dead_letters) parts.push(`${it.dead_letters} dead letters (stop it and run: spanhook inspect --data FOLDER)`);
  if (it.damaged) parts.push(`${it.damaged} damaged entries of the queue were set aside (see the log)`);
  if (it.queue_bytes > 0.8 * it.queue_capacity) parts.push(`the queue is ${Math.round(100 * it.queue_bytes / it.queue_capacity)} % full`);
  status(parts.join(" · "));
}
let query = "";
function showList(listing) {
  const { status: state, webhooks, traces } = listing;
  showStatus(state);
  const typing = document.activeElement && document.activeElement.id === "filter";
  const wanted = traces.filter((it) => `${it.repository} ${it.pipeline} ${it.reference} ${it.service} ${it.result} ${it.id}`.toLowerCase().includes(query.toLowerCase()));
  const rows = wanted.map((it) => {
    const url = `/traces/${it.id}`;
    return el("tr", { onclick: (event) => { if (event.target.tagName !== "A") location.href = url; } },
      el("td", {}, badge(it.result, it.role)),
      el("td", {}, el("a", { href: url }, it.pipeline || it.id), attempt(it), el("div", { class: "dim" }, it.repository)),
      el("td", { class: "hide" }, it.reference, it.revision ? el("span", { class: "dim mono" }, `  ${it.revision.slice(0, 8)}`) : ""),
      el("td", { class: "hide dim" }, it.service),
      el("td", { class: "num" }, String(it.span_count)),
      el("td", { class: "num" }, took(ms(it.end) - ms(it.start))),
      el("td", { class: "num dim", title: absolute(ms(it.start)) }, ago(ms(it.start))));
  });
  const filter = el("input", { id: "filter", type: "search", placeholder: "Filter", "aria-label": "Filter traces", value: query, oninput: (event) => { query = event.target.value; showList(listing); } });
  const head = el("div", { class: "head" }, el("h1", {}, "Traces"), el("span", { class: "dim" }, `${wanted.length} of ${traces.length}`), el("span", { class: "grow" }), traces.length ? filter : "");
  if (!traces.length) {
    const origin = location.origin;
    const hint = state.forwarding_to ? `Spans are forwarded to ${state.forwarding_to}; look for them there.` : "No trace yet. Send a sample, or point a webhook at this address:";
    main.replaceChildren(head, el("div", { class: "empty" }, el("div", {}, hint), state.forwarding_to ? "" : el("pre", {}, `spanhook send events/*/*.json --to ${origin}\n\n${webhooks.map(([name, path]) => `${`${name} webhook URL`.padEnd(22)}${origin}${path}`).join("\n")}`)));
  } else {
    const cell = (text, kind) => el("th", { class: kind, scope: "col" }, text);
    main.replaceChildren(head, el("table", {}, el("thead", {}, el("tr", {}, cell("Result"), cell("Pipeline"), cell("Ref", "hide"), cell("Service", "hide"), cell("Spans", "num"), cell("Duration", "num"), cell("Started", "num"))), el("tbody", {}, ...rows)));
  }
  if (typing) { const field = document.getElementById("filter"); field.focus(); field.setSelectionRange(query.length, query.length); }
}

// ---- what builds measured
function amount(value, unit) {
  if (unit === "By") {
    const units = ["B", "KiB", "MiB", "GiB"];
    const step = value > 0 ? Math.min(Math.floor(Math.log(value) / Math.log(1024)), 3) : 0;
    return `${(value / 1024 ** step).toFixed(step ? 1 : 0)} ${units[step]}`;
  }
  if (unit === "s") return took(value * 1000);
  const rounded = Number.isInteger(value) ? String(value) : value.toPrecision(4);
  return unit.startsWith("{") || unit === "1" || !unit ? rounded : `${rounded} ${unit}`;
}
function measures(list) {
  if (!list.length) return "";
  const rows = list.map((it) => el("tr", { class: "plain" },
    el("td", { class: "mono" }, it.name),
    el("td", { class: "num", title: `${it.value} ${it.unit}` }, amount(it.value, it.unit)),
    el("td", { class: "dim" }, it.attributes.map(([key, value]) => `${key}=${value}`).join("  "))));
  return el("section", { class: "measures" }, el("h2", {}, "Sizes and measures"),
    el("table", {}, el("tbody", {}, ...rows)));
}

// ---- one trace
async function showTrace(id) {
  const answer = await fetch(`/api/traces/${id}`).catch(() => null);
  if (!answer || !answer.ok) { main.replaceChildren(el("div", { class: "empty" }, "There is no such trace here. ", el("a", { href: "/" }, "All traces"))); return; }
  const trace = await answer.json();
  document.title = `${trace.pipeline} · spanhook`;
  const start = ms(trace.start), total = Math.max(ms(trace.end) - start, 0.001);
  const at = (time) => ((ms(time) - start) / total) * 100;
  // Of many jobs, and of many Pods, only those that failed begin with what is below them shown.
  const parents = new Set(), failedParents = new Set();
  trace.spans.forEach((span, at) => {
    const leads = trace.spans[at + 1]?.depth > span.depth;
    if (leads && ["job", "pod"].includes(span.role)) (span.failed ? failedParents : parents).add(span.id);
  });
  const withSteps = [...parents, ...failedParents];
  const folded = new Set(trace.spans.length > 60 ? parents : []);
  let text = "", failedOnly = false, selected = null;

  const copy = el("button", { type: "button", onclick: async () => { await navigator.clipboard.writeText(trace.id); copy.textContent = "Copied"; } }, "Copy trace id");
  const search = el("input", { type: "search", placeholder: "Filter jobs and steps", "aria-label": "Filter jobs and steps", oninput: (event) => { text = event.target.value.toLowerCase(); draw(); } });
  const failed = el("button", { type: "button", "aria-pressed": "false", onclick: () => { failedOnly = !failedOnly; failed.setAttribute("aria-pressed", failedOnly); draw(); } }, "Failed only");
  const unfolded = () => !withSteps.some((it) => folded.has(it));
  const steps = withSteps.length ? el("button", { type: "button", onclick: () => { const all = unfolded(); withSteps.forEach((it) => all ? folded.add(it) : folded.delete(it)); draw(); } }, "Steps") : "";
  const head = el("div", { class: "head" }, el("h1", {}, trace.pipeline), attempt(trace), badge(trace.result, trace.role), el("span", { class: "grow" }), search, failed, steps, copy);
  const fact = (name, value) => value ? el("span", {}, `${name} `, el("b", {}, value)) : "";
  const run = trace.spans.find((it) => it.role === "run");
  const earlier = Number(trace.attempt) > 1 && run && run.links[0];
  const facts = el("div", { class: "facts" },
    fact("Repository", trace.repository), fact("Ref", trace.reference), fact("Revision", trace.revision.slice(0, 12)),
    fact("Duration", took(total)), fact("Started", absolute(start)), fact("Spans", String(trace.span_count)), fact("Trace", trace.id),
    earlier ? el("span", {}, el("a", { href: `/traces/${earlier.split("/")[0]}` }, "Earlier attempt")) : "",
    trace.url ? el("span", {}, link(trace.url, "Open the run ↗")) : "");
  const falls = el("div", { class: "falls" }), panel = el("aside", { class: "panel", hidden: true, "aria-label": "Details of the span" });
  const split = el("div", { class: "split" }, falls, panel);
  main.replaceChildren(...[head, facts, split, measures(trace.measures)].filter(Boolean));
  const ticks = [0, 20, 40, 60, 80].map((it) => el("span", { style: `left:${it}%` }, took((total * it) / 100)));

  function visible() {
    const shown = []; let hiddenBelow = null;
    for (const span of trace.spans) {
      if (hiddenBelow !== null && span.depth > hiddenBelow) continue;
      hiddenBelow = folded.has(span.id) ? span.depth : null;
      shown.push(span);
    }
    if (!text && !failedOnly) return shown;
    return trace.spans.filter((it) => !["event", "run", "pipeline_run", "stage"].includes(it.role) && (!failedOnly || it.failed) && it.name.toLowerCase().includes(text));
  }
  function row(span, index) {
    const bad = span.failed, allowed = bad && span.allowed_to_fail;
    const kind = allowed ? "allowed" : SYMBOLS[span.result] ? span.result : bad ? "failure" : "unknown";
    const symbol = allowed ? "!" : span.role === "marker" ? "↺" : span.role === "event" ? "◆" : span.role === "stage" ? (bad ? "✗" : "") : SYMBOLS[span.result] || (bad ? "✗" : "");
    const parent = trace.spans[trace.spans.indexOf(span) + 1]?.depth > span.depth;
    const fold = parent ? el("span", { class: "fold", role: "button", "aria-label": folded.has(span.id) ? "Unfold" : "Fold", onclick: (event) => { event.stopPropagation(); folded.has(span.id) ? folded.delete(span.id) : folded.add(span.id); draw(); } }, folded.has(span.id) ? "▸" : "▾") : el("span", { class: "fold" });
    const queued = span.queued !== "0";
    const pieces = [];
    if (queued) pieces.push(el("i", { class: "piece wait", style: `left:${at(span.queued)}%;width:${at(span.start) - at(span.queued)}%` }));
    pieces.push(el("i", { class: "piece", style: `left:${Math.min(at(span.start), 99.8)}%;width:${at(span.end) - at(span.start)}%` }));
    const length = ["marker", "event", "ping"].includes(span.role) ? "" : span.result === "skip" ? "skipped" : took(ms(span.end) - ms(span.start));
    const title = `${span.name}\n${length}${queued ? `, waited ${took(ms(span.start) - ms(span.queued))}` : ""}${span.error ? `\n${span.error}` : ""}`;
    return el("button", { type: "button", "data-span": span.id, class: `row ${span.role}${bad ? " bad" : ""}`, title, "aria-current": selected === span.id ? "true" : "false", onclick: () => { selected = span.id; details(span); draw(); } },
      el("span", { class: "name", style: `padding-left:${Math.min(span.depth, 8) * 14}px` }, fold, el("span", { class: `sym ${kind}`, "aria-label": span.result || (bad ? "failed" : "") }, symbol), el("span", { class: "label" }, span.name)),
      el("span", { class: `track ${kind}` }, ...pieces), el("span", { class: "took" }, length));
  }
  function notRun(span) {
    const get = (event, key) => (event.attributes.find(([name]) => name === key) || [])[1] || "";
    return span.events.filter((it) => it.name === "job not run").map((event) => el("div", { class: "row notrun" },
      el("span", { class: "name", style: `padding-left:${(span.depth + 1) * 14}px` }, el("span", { class: "fold" }), el("span", { class: "sym" }, "–"), el("span", { class: "label" }, get(event, "cicd.pipeline.task.name"))),
      el("span", { class: "why" }, `not run: ${get(event, "spanhook.reason")}${get(event, "spanhook.stage") ? ` (stage ${get(event, "spanhook.stage")})` : ""}`), el("span")));
  }
  function draw() {
    if (steps) steps.setAttribute("aria-pressed", unfolded());
    const list = visible();
    const rows = list.map(row);
    const idle = run && !text && !failedOnly && !folded.has(run.id) ? list.filter((it) => it.role !== "job").flatMap(notRun) : [];
    falls.replaceChildren(el("div", { class: "axis" }, el("span", {}, `${list.length} rows`), el("div", { class: "ticks" }, ...ticks), el("span", { class: "took" }, took(total))), ...rows, ...idle);
    if (!rows.length) falls.append(el("div", { class: "row notrun" }, "Nothing matches."));
  }
  function details(span) {
    const pairs = (list) => el("dl", {}, ...list.flatMap(([key, value]) => [el("dt", {}, key), el("dd", {}, link(value, value))]));
    const queued = span.queued !== "0";
    panel.hidden = false; split.classList.add("open");
    panel.replaceChildren(
      el("button", { class: "close", type: "button", "aria-label": "Close", onclick: () => { panel.hidden = true; split.classList.remove("open"); selected = null; draw(); } }, "×"),
      el("h2", {}, span.name), span.result ? badge(span.result) : "", span.error ? el("span", { class: "mono failure" }, `  ${span.error}`) : "",
      el("h3", {}, "Time"),
      pairs([["started", absolute(ms(span.start))], ["after", `+${took(ms(span.start) - start)}`], ["took", took(ms(span.end) - ms(span.start))], ...(queued ? [["waited before", took(ms(span.start) - ms(span.queued))]] : []), ["span id", span.id]]),
      el("h3", {}, "Attributes"), pairs(span.attributes),
      ...(span.links.length ? [el("h3", {}, "Links"), ...span.links.map((it) => el("div", { class: "mono" }, el("a", { href: `/traces/${it.split("/")[0]}` }, it)))] : []),
      ...(span.events.length ? [el("h3", {}, "Events"), ...span.events.slice(0, 200).map((event) => el("div", {}, el("div", { class: "mono" }, event.name), pairs(event.attributes)))] : []));
  }
  draw();
  fetch("/api/traces").then((it) => it.json()).then((it) => showStatus(it.status)).catch(() => {});
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !panel.hidden) panel.querySelector(".close").click();
    if (event.key === "/" && event.target.tagName !== "INPUT") { event.preventDefault(); search.focus(); }
    if ((event.key === "ArrowLeft" || event.key === "ArrowRight") && event.target.dataset.span) {
      const span = event.target.dataset.span;
      event.key === "ArrowLeft" ? folded.add(span) : folded.delete(span);
      draw();
      falls.querySelector(`[data-span="${span}"]`)?.focus();
    }
    if ((event.key === "ArrowDown" || event.key === "ArrowUp") && event.target.classList.contains("row")) {
      event.preventDefault();
      const next = event.key === "ArrowDown" ? event.target.nextElementSibling : event.target.previousElementSibling;
      if (next && next.tagName === "BUTTON") next.focus();
    }
  });
}

// ---- theme and start
const root = document.documentElement;
try { if (localStorage.theme) root.dataset.theme = localStorage.theme; } catch { /* private mode */ }
const asked = new URLSearchParams(location.search).get("theme");
if (asked === "dark" || asked === "light") root.dataset.theme = asked;
document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.theme = root.dataset.theme; } catch { /* private mode */ }
});
const match = location.pathname.match(/^\/traces\/([0-9a-fA-F]{32})$/);
if (match) showTrace(match[1]);
else if (location.pathname === "/") { refresh(); setInterval(refresh, 2000); }
else main.replaceChildren(el("div", { class: "empty" }, "There is no such trace here. ", el("a", { href: "/" }, "All traces")));

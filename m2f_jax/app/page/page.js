// The page: pictures go to the server one after the other; all else happens here.
import { draw, ownersOf, scaled } from "/page/drawing.js";
import { painted, zip } from "/page/masks.js";

const LEAST_SCORE = 0.05; // that the server is asked for
const BUSY = 503, PAUSE = 2000; // a status; milliseconds until it is asked again
const TASKS = {
  instance: "Each object by itself; the background has no part.",
  panoptic: "Every pixel: objects one by one, all else by class.",
  semantic: "Every pixel by its class; objects of a class are one.",
};
const PICTURE = /\.(avif|bmp|gif|heic|heif|jfif|jpe?g|jp2|jxl|png|ppm|pgm|tga|tiff?|webp)$/i;
const $ = id => document.getElementById(id);
const items = []; // of pictures: {file, name, answers by task, errors by task, picture, hidden, thumb, asked}
let about, current = null, task, lit = null, owners = null, working = false, remark = "";

const answer = item => item?.answers[task];
const threshold = () => Number($("threshold").value);
const limited = () => task === "instance";

// The indices of the segments that threshold and number let through, best first.
function listed(item) {
  const all = answer(item)?.segments ?? [];
  const within = all.map((x, i) => i).filter(i => !limited() || all[i].score >= threshold());
  return limited() ? within.slice(0, Number($("top-k").value)) : within;
}

const hiddenOf = item => (item.hidden[task] ??= new Set());
const shown = item => listed(item).filter(i => !hiddenOf(item).has(i));
const style = () => ({ opacity: Number($("opacity").value), names: $("names").checked });

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function dot(color) {
  const made = element("span", { className: "dot" });
  made.style.background = color;
  return made;
}

// --- Pictures in -------------------------------------------------------------------------------

// Takes pictures; of folders, `all` also has what isn't one.
function add(files, all = files) {
  const fresh = [...files].map(file => ({
    file, name: file.webkitRelativePath || file.path || file.name || "pasted.png",
    answers: {}, errors: {}, hidden: {}, picture: null,
  }));
  const others = all.length - files.length;
  remark = !fresh.length ? "There is no picture in what was given."
    : others ? `Left out, since the names aren't those of pictures: ${others} ${others === 1 ? "file" : "files"}.` : "";
  if (!fresh.length) return show();
  const names = new Set(items.map(x => x.name));
  for (const item of fresh) {
    for (let k = 2, name = item.name; names.has(item.name); k++) {
      item.name = name.replace(/(\.[^./]*)?$/, `-${k}$1`);
    }
    names.add(item.name);
    items.push(item);
    item.thumb = element("button", { title: item.name, onclick: () => select(item) },
      element("canvas", { width: 208, height: 132 }), element("span", { textContent: "…" }));
    item.thumb.setAttribute("aria-label", item.name);
    $("strip").append(item.thumb);
  }
  $("strip").hidden = items.length < 2;
  select(fresh[0], remark);
  work();
}

function clear() {
  for (const item of items.splice(0)) item.picture?.close();
  $("strip").replaceChildren();
  $("strip").hidden = true;
  current = lit = null;
  remark = "";
  show();
  $("pick").focus();
}

async function look(item) {
  if (item.picture) return;
  try {
    item.picture = await createImageBitmap(item.file);
  } catch {
    item.picture = null; // of a kind that only the server can read
  }
}

function thumbnail(item) {
  const canvas = item.thumb.querySelector("canvas"), { width, height } = item.picture;
  const scale = Math.max(canvas.width / width, canvas.height / height);
  canvas.getContext("2d").drawImage(item.picture, (canvas.width - width * scale) / 2,
    (canvas.height - height * scale) / 2, width * scale, height * scale);
}

// Asks for all pictures that have no answer for this task; the one that is looked at first.
async function work() {
  if (working) return;
  working = true;
  const open = x => !x.answers[task] && !x.errors[task];
  for (let item; (item = current && open(current) ? current : items.find(open));) {
    await ask(item, task);
    if (item !== current && item.picture) { item.picture.close(); item.picture = null; }
  }
  working = false;
}

async function ask(item, wanted) {
  item.asked = performance.now();
  await look(item);
  if (item.picture) thumbnail(item);
  if (item === current) show();
  try {
    if (item.file.size > about.max_bytes) {
      throw new Error(`${item.name} is larger than ${Math.floor(about.max_bytes / 2 ** 20)} MiB; shrink it, or allow more with m2f app --max-upload`);
    }
    const query = new URLSearchParams({ name: item.name, task: wanted, threshold: LEAST_SCORE });
    const found = await (await post(`/segment?${query}`, item.file)).json();
    item.answers[wanted] = found;
    const [height, width] = found.size;
    if (!item.picture || item.picture.width !== width || item.picture.height !== height) {
      const query = new URLSearchParams({ name: item.name });
      const jpeg = await (await post(`/preview?${query}`, item.file)).blob();
      item.file = new File([jpeg], item.name); // what a browser can show
      item.picture = await createImageBitmap(jpeg);
      thumbnail(item);
    }
  } catch (error) {
    item.errors[wanted] = error;
  }
  mark(item);
  if (item === current) show();
}

// An error's `passing` says that the same may go well later.
async function post(address, body) {
  let response;
  do {
    if (response) await new Promise(done => setTimeout(done, PAUSE));
    try {
      response = await fetch(address, { method: "POST", body });
    } catch {
      const error = new Error("The server doesn't answer, or broke off. Is m2f app still running?");
      throw Object.assign(error, { passing: true });
    }
  } while (response.status === BUSY && items.length); // others' pictures are in front
  if (response.ok) return response;
  const told = await response.json().catch(() => ({}));
  const error = new Error(told.error ?? `The server failed (${response.status}).`);
  throw Object.assign(error, { passing: response.status >= 500 });
}

function again() {
  for (const item of items) {
    if (item.errors[task]?.passing) { delete item.errors[task]; mark(item); }
  }
  show();
  work();
}

function mark(item) {
  const failed = item.errors[task];
  item.thumb.classList.toggle("failed", Boolean(failed));
  item.thumb.querySelector("span").textContent = failed ? "!" : answer(item) ? shown(item).length : "…";
  item.thumb.setAttribute("aria-label", item.name + (failed ? ", failed" : answer(item) ? `, ${shown(item).length} shown` : ", waiting"));
}

// --- What is seen ------------------------------------------------------------------------------

async function select(item, told = "") {
  const before = current;
  current = item;
  lit = null;
  remark = told;
  for (const x of items) x.thumb.setAttribute("aria-current", x === item);
  item.thumb.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (before && before !== item && before.picture) { before.picture.close(); before.picture = null; }
  show();
  await look(item);
  if (item === current) show();
}

function say(problem, passing = false) {
  $("problem-text").textContent = problem ?? "";
  $("problem").hidden = !problem;
  $("again").hidden = !passing;
}

// How long the picture that is looked at has been waited for, once that is worth a word.
function tick() {
  const seconds = Math.round((performance.now() - current?.asked) / 1000);
  $("busy-time").textContent = !(seconds >= 3) ? ""
    : seconds < 8 ? `${seconds} s` : `${seconds} s; the first picture of a shape takes longer`;
}

// Brings all of the page up to date.
function show() {
  const item = current, found = answer(item), error = item?.errors[task];
  say(error?.message ?? remark, error?.passing);
  $("empty").hidden = Boolean(item && (item.picture || !error));
  $("view").hidden = !item?.picture;
  $("busy").hidden = !item || Boolean(found || error);
  $("clear").hidden = !item;
  $("caption").hidden = $("view").hidden;
  $("file-name").textContent = $("file-name").title = item?.name ?? "";
  tick();
  const waiting = items.filter(x => !x.answers[task] && !x.errors[task]).length;
  $("busy-text").textContent = $("busy").hidden ? "" : waiting > 1 ? `Segmenting, ${waiting} pictures to go` : "Segmenting";
  $("task-text").textContent = TASKS[task];
  program();
  $("limits").classList.toggle("off", !limited());
  for (const id of ["threshold", "top-k"]) $(id).disabled = !limited();
  $("threshold-value").textContent = threshold().toFixed(2);
  $("top-k-value").textContent = $("top-k").value;
  const ready = chosen().length > 0;
  for (const id of ["save-masks", "save-coco", "save-rle"]) $(id).disabled = !ready;
  $("save-picture").disabled = !found;
  $("every-label").hidden = items.length < 2;
  owners = null;
  if (item?.picture) {
    const [width, height] = scaled(item.picture.width, item.picture.height);
    Object.assign($("view"), { width, height });
    if (found) owners = ownersOf(found.segments, shown(item), width, height);
  }
  const focused = document.activeElement?.dataset.key; // what has it is about to be replaced
  legend();
  table();
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  redraw();
}

// How a program asks for the same.
function program() {
  const query = new URLSearchParams({ task, ...(limited() ? { threshold: threshold(), top_k: $("top-k").value } : {}) });
  $("with-curl").textContent = `curl --data-binary @picture.jpg '${location.origin}/segment?${query}'`;
  const more = limited() ? `, ${threshold()}, ${$("top-k").value}` : "";
  $("with-python").textContent = `from gradio_client import Client, handle_file

client = Client("${location.origin}")
answer = client.predict(handle_file("picture.jpg"), "${task}"${more}, api_name="/segment")`;
}

function redraw() {
  if (!current?.picture || $("view").hidden) return;
  draw($("view"), current.picture, answer(current)?.segments ?? [], owners, answer(current) ? shown(current) : [], lit, style());
}

function light(indices) {
  const next = indices && new Set(indices);
  if (String([...next ?? []]) === String([...lit ?? []])) return;
  lit = next;
  for (const row of $("rows").children) row.classList.toggle("lit", Boolean(lit?.has(Number(row.dataset.index))));
  redraw();
}

function hide(indices, hidden) {
  const set = hiddenOf(current);
  for (const i of indices) hidden ? set.add(i) : set.delete(i);
  mark(current);
  show();
}

// Lights something up while the pointer or the keyboard is on it.
function lights(indices, on) {
  const leave = () => light(null), enter = () => on && light(indices);
  return { onpointerenter: enter, onpointerleave: leave,
    onfocusin: event => event.target.matches(":focus-visible") && enter(), onfocusout: leave };
}

function legend() {
  const segments = answer(current)?.segments ?? [], groups = new Map();
  for (const i of answer(current) ? listed(current) : []) {
    groups.set(segments[i].class, [...groups.get(segments[i].class) ?? [], i]);
  }
  $("legend").replaceChildren(...[...groups].map(([name, indices]) => {
    const colors = [...new Set(indices.map(i => segments[i].color))].slice(0, 3);
    const on = indices.some(i => !hiddenOf(current).has(i));
    const chip = element("button", { onclick: () => hide(indices, on), ...lights(indices, on) },
      element("span", { className: "dots" }, ...colors.map(dot)), name);
    if (indices.length > 1) chip.append(element("small", { textContent: indices.length }));
    chip.setAttribute("aria-pressed", on);
    chip.dataset.key = `class ${name}`;
    return chip;
  }));
}

function table() {
  const item = current, found = answer(item), indices = found ? listed(item) : [];
  const what = { instance: ["object", "objects"], panoptic: ["segment", "segments"], semantic: ["class", "classes"] }[task];
  $("count").textContent = found ? `${indices.length} ${what[Number(indices.length !== 1)]}`
    : item?.errors[task] ? "No result" : item ? "Segmenting" : "Nothing yet";
  $("view").setAttribute("aria-label", `${item?.name ?? ""}, ${$("count").textContent}`);
  document.querySelector("table").hidden = !indices.length;
  document.querySelector("table").classList.toggle("unscored", task === "semantic");
  $("all-label").hidden = !indices.length;
  $("all").checked = indices.every(i => !hiddenOf(item).has(i));
  const pixels = found ? found.size[0] * found.size[1] : 1;
  $("rows").replaceChildren(...indices.map((i, place) => {
    const segment = found.segments[i], on = !hiddenOf(item).has(i), share = 100 * segment.area / pixels;
    const box = element("input", { type: "checkbox", checked: on, onchange: () => hide([i], on) });
    box.setAttribute("aria-label", `Show ${place + 1}, ${segment.class}`);
    box.dataset.key = `row ${i}`;
    const row = element("tr", { className: on ? "" : "out", ...lights([i], on) },
      element("td", {}, box),
      element("td", { className: "name" }, dot(segment.color), segment.class),
      element("td", { className: "number score", textContent: segment.score === null ? "–" : segment.score.toFixed(2) }),
      element("td", { className: "number", textContent: share < 0.1 ? "<0.1%" : `${share.toFixed(1)}%` }));
    row.dataset.index = i;
    return row;
  }));
}

function hover(event) {
  const view = $("view"), box = view.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) * view.width / box.width);
  const y = Math.floor((event.clientY - box.top) * view.height / box.height);
  const inside = x >= 0 && y >= 0 && x < view.width && y < view.height;
  const index = owners && inside ? owners[y * view.width + x] : -1, tip = $("tip");
  light(index < 0 ? null : [index]);
  tip.hidden = index < 0;
  if (index < 0) return;
  const segment = answer(current).segments[index], frame = $("frame").getBoundingClientRect();
  tip.textContent = segment.class + (segment.score === null ? "" : ` ${segment.score.toFixed(2)}`);
  tip.style.left = `${Math.min(event.clientX - frame.left + 14, frame.width - tip.offsetWidth - 6)}px`;
  tip.style.top = `${Math.max(6, event.clientY - frame.top - 34)}px`;
}

// --- Downloads ---------------------------------------------------------------------------------

function save(name, parts, type) {
  const link = element("a", { href: URL.createObjectURL(new Blob(parts, { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// Makes and saves something, which may take a while, or more memory than there is.
async function saving(button, make) {
  button.setAttribute("aria-busy", true);
  try {
    await make();
  } catch (error) {
    say(`${button.textContent} can't be made: ${error.message}`);
  }
  button.removeAttribute("aria-busy");
}

// The picture with what is shown, in its own size where the browser can read it.
async function overlay(item) {
  const { width, height } = item.picture, { segments } = answer(item), seen = shown(item);
  const canvas = element("canvas", { width, height });
  draw(canvas, item.picture, segments, ownersOf(segments, seen, width, height), seen, null, style());
  const blob = await new Promise(done => canvas.toBlob(done));
  if (!blob) throw new Error("the browser can't make one of that size");
  save(`${stem(item.name).replaceAll("/", "_")}-overlay.png`, [blob], "image/png");
}

const stem = name => name.replace(/\.[^./]*$/, "");

function chosen() {
  const all = items.length > 1 && $("every").checked ? items : [current];
  return all.filter(answer).map(item => ({
    name: stem(item.name), file_name: item.name, size: answer(item).size,
    segments: shown(item).map(i => answer(item).segments[i]),
  }));
}

function saveJSON(name, value) {
  save(name, [JSON.stringify(value)], "application/json");
}

function coco(pictures) {
  if (task !== "panoptic") {
    return pictures.flatMap(({ name, segments }) => segments.map(x => ({
      image_id: name, category_id: x.category_id, segmentation: x.segmentation,
      ...(x.score === null ? {} : { score: x.score }),
    })));
  }
  return {
    images: pictures.map(({ name, file_name, size: [height, width] }) => ({ id: name, file_name, height, width })),
    annotations: pictures.map(({ name, segments }) => ({
      image_id: name, file_name: `${name}.png`,
      segments_info: segments.map((x, i) => ({ id: i + 1, category_id: x.category_id, area: x.area,
        bbox: x.bbox, iscrowd: 0, isthing: Number(x.is_thing), score: x.score })),
    })),
    categories: about.categories,
  };
}

// Instances: a PNG each. Panoptic and semantic: also one map, of COCO's panoptic ids or class ids.
async function masks(pictures) {
  const files = [];
  for (const { name, segments } of pictures) {
    const all = segments.map(x => x.segmentation);
    if (task !== "instance" && all.length) {
      const ids = segments.map((x, i) => task === "panoptic" ? i + 1 : x.category_id);
      files.push([`${name}.png`, await painted(all, ids)]);
    }
    for (const [i, x] of segments.entries()) {
      const label = x.class.replace(/[^\p{L}\p{N}-]+/gu, "_");
      files.push([`${name}/${i + 1}_${label}.png`, await painted([x.segmentation])]);
    }
  }
  return zip(files);
}

// --- Everything starts here --------------------------------------------------------------------

async function filesOf(entry, path = "") {
  if (entry.isFile) {
    const file = await new Promise((done, failed) => entry.file(done, failed));
    file.path = path + file.name;
    return [file];
  }
  const reader = entry.createReader(), found = [];
  for (let batch; (batch = await new Promise((done, failed) => reader.readEntries(done, failed))).length;) {
    for (const inner of batch) found.push(...await filesOf(inner, `${path}${entry.name}/`));
  }
  return found;
}

async function dropped(event) {
  event.preventDefault();
  $("frame").classList.remove("over");
  const entries = [...event.dataTransfer.items].map(x => x.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some(x => x.isDirectory)) return add(event.dataTransfer.files);
  const found = (await Promise.all(entries.map(x => filesOf(x)))).flat();
  add(found.filter(x => PICTURE.test(x.name)).sort((a, b) => a.path.localeCompare(b.path)), found);
}

// Takes the arrow keys to the picture before or after, but where they are a control's own.
function step(event) {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || event.altKey || event.ctrlKey || event.metaKey || event.target.closest("input, pre")) return;
  const next = items[items.indexOf(current) + by];
  if (!next) return;
  select(next);
  if (event.target.closest("#strip")) next.thumb.focus();
}

function unlight() {
  $("tip").hidden = true;
  light(null);
}

async function start() {
  about = await (await fetch("/about")).json();
  task = about.task;
  $("model").textContent = `${about.model} · ${about.categories.length} classes`;
  document.title = `m2f · ${about.model}`;
  const [, told, way] = about.note.match(/^(.*: )(m2f .*)$/) ?? [];
  $("note").hidden = !told;
  if (told) {
    const words = way.split(" ").flatMap(word => [element("span", { textContent: word }), " "]);
    $("note").append(told[0].toUpperCase() + told.slice(1), element("code", {}, ...words));
  }
  $("top-k").max = $("top-k").value = about.top_k;
  for (const name of about.tasks) {
    const radio = element("input", { type: "radio", name: "task", value: name, checked: name === task,
      onchange: () => { task = name; lit = null; remark = ""; items.forEach(mark); show(); work(); } });
    $("tasks").append(element("label", {}, radio, element("span", { textContent: name })));
  }
  for (let i = 0; i < about.examples; i++) {
    const image = element("img", { src: `/examples/${i}.jpg`, alt: `Example ${i + 1}, a drawn street`, loading: "lazy" });
    $("examples").append(element("button", { onclick: async () => {
      const blob = await (await fetch(`/examples/${i}.jpg`)).blob();
      add([new File([blob], `street-${i + 1}.jpg`, { type: "image/jpeg" })]);
    } }, image));
  }
  for (const id of ["threshold", "top-k"]) $(id).addEventListener("input", () => { items.forEach(mark); show(); });
  for (const id of ["names", "opacity"]) $(id).addEventListener("input", redraw);
  $("every").addEventListener("change", show);
  $("all").addEventListener("change", () => hide(listed(current), !$("all").checked));
  $("pick").onclick = () => $("files").click();
  $("pick-folder").onclick = () => $("folder").click();
  $("clear").onclick = clear;
  $("again").onclick = again;
  $("frame").onclick = () => $("empty").hidden || $("files").click();
  $("files").onchange = () => { add($("files").files); $("files").value = ""; };
  $("folder").onchange = () => {
    add([...$("folder").files].filter(x => PICTURE.test(x.name)).sort((a, b) =>
      a.webkitRelativePath.localeCompare(b.webkitRelativePath)), $("folder").files);
    $("folder").value = "";
  };
  document.ondragover = event => { event.preventDefault(); $("frame").classList.add("over"); };
  document.ondragleave = event => event.relatedTarget || $("frame").classList.remove("over");
  document.ondrop = dropped;
  document.onpaste = event => event.clipboardData.files.length && add(event.clipboardData.files);
  $("view").onpointermove = $("view").onpointerdown = hover;
  // A finger that lifts leaves the name behind, until it comes down elsewhere.
  $("view").onpointerleave = event => event.pointerType === "touch" || unlight();
  document.onpointerdown = event => event.target === $("view") || unlight();
  document.onkeydown = step;
  const ways = {
    "save-coco": () => saveJSON("predictions.json", coco(chosen())),
    "save-rle": () => saveJSON("rle.json", chosen().flatMap(({ name, segments }) =>
      segments.map(x => ({ image: name, class: x.class, score: x.score, ...x.segmentation })))),
    "save-masks": async () => save("masks.zip", [await masks(chosen())], "application/zip"),
    "save-picture": () => overlay(current),
  };
  for (const [id, make] of Object.entries(ways)) $(id).onclick = () => saving($(id), make);
  setInterval(tick, 1000);
  show();
  document.body.dataset.ready = "true";
}

start();

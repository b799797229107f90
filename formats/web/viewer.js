/** The page: files that are dropped, opened or inside it; one of them on the stage, and what there is to tell of it. */

import { LrqError, decode, loadDecoder, openModel, readHeader } from "./lrq.js";
import { Zoom } from "./zoom.js";

const LRQ = "LRQ";
const LRQM = "LRM";
/** Larger images are decoded at a lower resolution at first: pixels, and pixels of a side, that any canvas takes. */
const CANVAS_PIXELS = 2 ** 26;
const CANVAS_SIDE = 16384;
/** The time of decoding is the median of so many runs, if they take no longer than so many milliseconds in all. */
const RUNS = 7;
const RUNS_TIME = 700;

const at = (id) => document.getElementById(id);

/** @type {Map<string, import("./lrq.js").Model>} by fingerprint */
const models = new Map();
/** @type {{name: string, bytes: Uint8Array, header: object, shrink: number, time: string}[]} */
const files = [];
/** @type {{name: string, bytes: number, url: string, width: number, height: number} | null} */
let original = null;
/** The file that was asked for, and the one on the stage: another one if the first cannot be drawn. */
let wanted = null;
let shown = null;

const zoom = new Zoom(at("stage"), place);

// ---- files

/** Whether a file begins with a signature, and the byte of a version behind it. */
function startsWith(bytes, signature) {
  return [...signature].every((letter, i) => bytes[i] === letter.charCodeAt(0)) && bytes[signature.length] >= 0x80;
}

/** Take in files: models, pictures, and an original. The first of several pictures is shown. */
async function take(entries) {
  const failures = [];
  const before = files.length;
  for (const { name, bytes } of entries) {
    try {
      if (!bytes) throw new LrqError(1, "cannot be read");
      if (startsWith(bytes, LRQM)) {
        const model = await openModel(bytes);
        if (models.has(model.fingerprint)) model.close();
        else models.set(model.fingerprint, model);
      } else if (startsWith(bytes, LRQ) || name.toLowerCase().endsWith(".lrq")) {
        const header = await readHeader(bytes);
        files.push({ name, bytes, header, shrink: firstShrink(header), time: "" });
      } else {
        await takeOriginal(name, bytes);
      }
    } catch (error) {
      failures.push(line(name, error));
    }
  }
  if (files.length > before) wanted = files[before];
  list();
  if (wanted && wanted !== shown) failures.push(show(wanted));
  else if (shown) describe(shown);
  say("message", failures.filter(Boolean).join(" · "));
}

/** An error in one line. */
function line(name, error) {
  return `${name}: ${error.message}`;
}

function firstShrink({ width, height }) {
  const side = Math.max(width, height);
  const fits = (shrink) => width * height <= CANVAS_PIXELS * shrink ** 2 && side <= CANVAS_SIDE * shrink;
  return [1, 2, 4, 8].find(fits) ?? 16;
}

async function takeOriginal(name, bytes) {
  const url = URL.createObjectURL(new Blob([bytes]));
  const image = at("original");
  image.src = url;
  try {
    await image.decode();
  } catch {
    URL.revokeObjectURL(url);
    if (original) image.src = original.url;
    throw new LrqError(2, "neither an .lrq file, nor a model, nor an image that this browser shows");
  }
  if (original) URL.revokeObjectURL(original.url);
  original = { name, bytes: bytes.length, url, width: image.naturalWidth, height: image.naturalHeight };
}

function list() {
  const options = files.map(({ name }, i) => new Option(name, i));
  at("files").replaceChildren(...options);
  at("files").value = files.indexOf(wanted);
  at("files").hidden = files.length < 2;
}

// ---- the picture

/** Decode a file and show it. Returns the line that says why not, or "". */
function show(file) {
  const { name, bytes, header, shrink } = file;
  const model = models.get(header.model);
  if (!model) {
    const how = "drop its .lrqm file too (lrq models export NAME -o NAME.lrqm writes it)";
    return `${name}: needs model ${header.model}, which is not here: ${how}`;
  }
  let image, first;
  try {
    [image, first] = timed(() => decode(bytes, model, { shrink, partial: true }));
  } catch (error) {
    return line(name, error);
  }
  shown = file;
  const canvas = at("decoded");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  canvas.setAttribute("aria-label", `${name}, ${header.width} × ${header.height} pixels`);
  document.title = `${name} – lrq`;
  at("picture").hidden = at("zoom").hidden = false;
  at("hint").hidden = true;
  say("notice", image.incomplete ? `${name} is cut short or damaged: what is missing is drawn coarsely, or grey.` : "");
  file.time = milliseconds(first);
  describe(file);
  at("picture").style.width = `${header.width}px`;
  at("picture").style.height = `${header.height}px`;
  zoom.setSize(header.width, header.height);
  again(file, model, first);
  return "";
}

function timed(work) {
  const start = performance.now();
  const result = work();
  return [result, performance.now() - start];
}

/** Three digits, or all before the point. */
function digits(value) {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

function milliseconds(time) {
  return `${digits(time)} ms`;
}

/** Decode some times more, between other work: the first time is that of a cold program. */
async function again(file, model, first) {
  const times = [];
  const { shrink } = file;
  for (let spent = first; times.length < RUNS && spent + first < RUNS_TIME; spent += times.at(-1)) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (shown !== file || shrink !== file.shrink) return;
    times.push(timed(() => decode(file.bytes, model, { shrink, partial: true }))[1]);
  }
  times.sort((a, b) => a - b);
  if (!times.length) return;
  file.time = `${milliseconds(times[times.length >> 1])}, the first time ${milliseconds(first)}`;
  describe(file);
}

/** What there is to tell: the fields of the header, size, rate and time. */
function describe({ bytes, header, shrink, time }) {
  const { width, height } = header;
  const rows = {
    size: `${width} × ${height} pixels`,
    bytes: bytes.length.toLocaleString("en"),
    rate: `${((8 * bytes.length) / (width * height)).toFixed(3)} bits per pixel`,
    decoding: time,
    colour: header.colour ? "RGB" : "grey",
    alpha: header.alpha ? "yes" : "no",
    smoothing: header.smoothing ? "yes" : "no",
    rank: header.rank,
    iterations: `at most ${header.iterations}`,
    band: header.band,
    model: header.model,
  };
  if (original) {
    const { name, bytes, width: columns, height: lines } = original;
    rows.original = `${name}, ${columns} × ${lines} pixels, ${bytes.toLocaleString("en")} bytes`;
    if (columns !== width || lines !== height) rows.original += " (stretched to the size of the picture)";
  }
  const cell = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });
  const pairs = Object.entries(rows).flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]);
  at("details").replaceChildren(...pairs);
  at("sizes").hidden = false;
  at("shrink").value = shrink;
  at("original").alt = original ? `The original, ${original.name}` : "";
  for (const id of ["original", "divider", "share", "drop-original"]) at(id).hidden = !original;
  place();
}

/** Put picture and divider where they belong. */
function place() {
  const { scale, x, y } = zoom;
  const picture = at("picture");
  picture.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
  picture.style.setProperty("--square", `${16 / scale}px`);
  picture.classList.toggle("enlarged", zoom.factor * (shown?.shrink ?? 1) > 1);
  at("percent").textContent = `${digits(zoom.factor * 100)} %`;
  const edge = (at("share").value / 100) * at("stage").clientWidth;
  at("divider").style.left = `${edge}px`;
  const cut = Math.max(0, (shown?.header.width ?? 0) - Math.max(0, edge - x) / scale);
  at("original").style.clipPath = `inset(0 ${cut}px 0 0)`;
}

function say(id, text) {
  at(id).textContent = text;
  at(id).hidden = !text;
}

// ---- what people do

/** Names and contents; null for what has none, such as a folder. */
async function read(list) {
  const content = async (file) => new Uint8Array(await file.arrayBuffer());
  const entry = async (file) => ({ name: file.name, bytes: await content(file).catch(() => null) });
  return Promise.all([...list].map(entry));
}

at("open").addEventListener("change", async ({ target }) => {
  const entries = await read(target.files);
  target.value = ""; // the same file may be opened again
  await take(entries);
});
for (const id of ["files", "shrink"]) {
  at(id).addEventListener("change", () => {
    wanted = files[at("files").value];
    if (id === "shrink") wanted.shrink = Number(at("shrink").value);
    say("message", show(wanted));
  });
}
for (const id of ["in", "out", "fit", "actual"]) at(id).addEventListener("click", () => zoom[id]());
at("share").addEventListener("input", place);
at("divider").addEventListener("pointerdown", (event) => {
  event.stopPropagation(); // the picture stays
  at("divider").setPointerCapture(event.pointerId);
});
at("divider").addEventListener("pointermove", (event) => {
  if (!at("divider").hasPointerCapture(event.pointerId)) return;
  const box = at("stage").getBoundingClientRect();
  at("share").value = (100 * (event.clientX - box.left)) / box.width;
  place();
});
at("drop-original").addEventListener("click", () => {
  URL.revokeObjectURL(original.url);
  original = null;
  describe(shown);
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  at("stage").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("stage").classList.remove("over");
});
addEventListener("drop", async (event) => {
  event.preventDefault();
  at("stage").classList.remove("over");
  await take(await read(event.dataTransfer.files));
});

// ---- what is inside the page

function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

const decoder = at("lrqdec");
if (decoder) loadDecoder(fromBase64(decoder.textContent));
const inside = [...document.querySelectorAll("script[data-name]")];
const entries = inside.map((element) => ({ name: element.dataset.name, bytes: fromBase64(element.textContent) }));
for (const element of inside) element.remove();
at("hint").hidden = entries.length > 0; // of a slow device
await take(entries);
at("hint").hidden = shown !== null;

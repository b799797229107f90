/**
 * <lrq-img src="photo.lrq" model="photo.lrqm" alt="..." shrink="8" loading="lazy" width="96" height="64">
 *
 * Like <img>: `naturalWidth`, `naturalHeight`, `complete`, the events `load` and `error`, and `decode()`. After
 * `error` the property `error` says what went wrong; `incomplete` tells that the file was cut short, and drawn as far
 * as it goes because of the attribute `partial`. A model is fetched once a page. Without `model` it is one that the page
 * has for another element, or has given to `shareModel`.
 */

import { LrqError, decode, fetchBytes, openModel, readHeader } from "./lrq.js";

/** @type {Map<string, Promise<import("./lrq.js").Model>>} by URL */
const fetched = new Map();
/** @type {Map<string, import("./lrq.js").Model>} by fingerprint */
const shared = new Map();
const MARGIN = "300px";

/**
 * Let all elements use a model. Of two models of one fingerprint the first stays.
 *
 * @param {import("./lrq.js").Model} model
 * @returns {import("./lrq.js").Model} that with this fingerprint which the elements use
 */
export function shareModel(model) {
  if (!shared.has(model.fingerprint)) shared.set(model.fingerprint, model);
  return shared.get(model.fingerprint);
}

function fetchModel(url) {
  if (!fetched.has(url)) {
    const model = fetchBytes(url).then(openModel).then(shareModel);
    fetched.set(url, model);
    model.catch(() => fetched.delete(url)); // the next element tries again
  }
  return fetched.get(url);
}

async function sharedModel(fingerprint) {
  await Promise.allSettled(fetched.values());
  const model = shared.get(fingerprint);
  if (!model) throw new LrqError(4, `the file needs model ${fingerprint}, which the page has not`);
  return model;
}

const SHEET = new CSSStyleSheet();
SHEET.replaceSync(`
  :host { display: inline-block; overflow: clip; }
  :host([hidden]) { display: none; }
  canvas { display: block; width: 100%; height: 100%; object-fit: inherit; }
  canvas[hidden] { display: none; }
`);

/** The element. Importing this file defines it as `lrq-img`. */
export class LrqImage extends HTMLElement {
  static observedAttributes = ["src", "model", "shrink", "partial", "loading", "alt", "width", "height"];

  naturalWidth = 0;
  naturalHeight = 0;
  complete = true;
  incomplete = false;
  /** @type {Error | null} */
  error = null;
  #canvas = document.createElement("canvas");
  #text = document.createElement("span");
  #size = new CSSStyleSheet();
  /** @type {AbortController | null} of what is being loaded */
  #loading = null;
  #settled = Promise.resolve();
  #asked = false;
  /** Whether the picture, or the error, is that of the attributes. */
  #current = false;

  constructor() {
    super();
    this.#canvas.hidden = true;
    this.#canvas.setAttribute("part", "image");
    this.#text.setAttribute("part", "alt");
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [SHEET, this.#size];
    root.append(this.#canvas, this.#text);
  }

  connectedCallback() {
    if (!this.#current) this.#load(); // else it was moved in the page
  }

  disconnectedCallback() {
    this.#loading?.abort();
  }

  attributeChangedCallback(name, before, value) {
    if (name === "alt") this.#describe();
    else if (name === "width" || name === "height") this.#resize();
    else if (before !== value) {
      this.#current = false;
      if (this.isConnected) this.#load();
    }
  }

  /** Resolved when the picture is drawn; rejected with what went wrong. */
  decode() {
    return this.#settled.then(() => {
      if (this.error) throw this.error;
    });
  }

  /** Once, however many attributes change at a time. */
  #load() {
    if (this.#asked) return;
    this.#asked = true;
    this.#settled = Promise.resolve().then(async () => {
      this.#asked = false;
      this.#loading?.abort();
      if (!this.isConnected || !this.src) return;
      const loading = (this.#loading = new AbortController());
      this.complete = false;
      try {
        await this.#draw(loading.signal);
        this.error = null;
      } catch (error) {
        if (loading.signal.aborted) return;
        this.error = error;
        this.#canvas.hidden = true;
        this.naturalWidth = this.naturalHeight = 0;
      }
      this.complete = this.#current = true;
      this.#describe();
      this.dispatchEvent(new Event(this.error ? "error" : "load"));
    });
  }

  async #draw(signal) {
    if (this.getAttribute("loading") === "lazy") await nearby(this, signal);
    const url = this.getAttribute("model");
    const fetching = fetchBytes(this.src, { signal });
    const [bytes, named] = await Promise.all([fetching, url && fetchModel(absolute(url))]);
    const model = named || (await sharedModel((await readHeader(bytes)).model));
    signal.throwIfAborted();
    const image = decode(bytes, model, { shrink: this.shrink, partial: this.hasAttribute("partial") });
    [this.#canvas.width, this.#canvas.height] = [image.width, image.height];
    this.#canvas.getContext("2d").putImageData(image, 0, 0);
    this.#canvas.hidden = false;
    [this.naturalWidth, this.naturalHeight, this.incomplete] = [image.width, image.height, image.incomplete];
  }

  /** As <img>: a description for who does not see it, which is shown if there is no picture. */
  #describe() {
    const picture = this.#canvas;
    picture.setAttribute("role", this.alt === "" ? "presentation" : "img");
    if (this.alt) picture.setAttribute("aria-label", this.alt);
    else picture.removeAttribute("aria-label");
    this.#text.textContent = this.error ? this.alt : "";
  }

  /** `width` and `height` give way to the page's style sheets, and keep the room until the picture comes. */
  #resize() {
    const [width, height] = ["width", "height"].map((name) => parseInt(this.getAttribute(name), 10));
    const rules = [];
    if (width >= 0) rules.push(`width: ${width}px`);
    if (height >= 0) rules.push(`height: ${height}px`);
    if (width > 0 && height > 0) rules.push(`aspect-ratio: auto ${width} / ${height}`);
    this.#size.replaceSync(`:host { ${rules.join("; ")} }`);
  }

  get src() {
    const value = this.getAttribute("src");
    return value ? absolute(value) : "";
  }

  set src(value) {
    this.setAttribute("src", value);
  }

  get alt() {
    return this.getAttribute("alt");
  }

  set alt(value) {
    this.setAttribute("alt", value);
  }

  /** 1, 2, 4, 8 or 16. */
  get shrink() {
    return Number(this.getAttribute("shrink") ?? 1);
  }

  set shrink(value) {
    this.setAttribute("shrink", value);
  }
}

function absolute(url) {
  return new URL(url, document.baseURI).href;
}

/** Resolved once the element is on the screen, or near. */
function nearby(element, signal) {
  return new Promise((resolve, reject) => {
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) finish(resolve);
      },
      { rootMargin: MARGIN },
    );
    const finish = (settle) => {
      observer.disconnect();
      settle(signal.reason);
    };
    signal.addEventListener("abort", () => finish(reject));
    observer.observe(element);
  });
}

customElements.define("lrq-img", LrqImage);

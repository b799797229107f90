/**
 * Decodes .lrq images: the decoder of formats/c as WebAssembly.
 *
 *     import { decode, openModel } from "./lrq.js";
 *     const model = await openModel(await (await fetch("photo.lrqm")).arrayBuffer());
 *     canvas.getContext("2d").putImageData(decode(bytes, model), 0, 0);
 */

/** Images of more pixels are refused, unless the caller sets another limit. */
export const MAX_PIXELS = 2 ** 28;

/** How much smaller than the image may be drawn: 1 is the whole. */
export const SHRINKS = [1, 2, 4, 8, 16];

const INCOMPLETE = 7;
const MEMORY = 1;
/** A decoder that has grown beyond its model by more bytes is given up after an image. */
const KEEP = 2 ** 26;
/** By the code of lrq.h. */
const MESSAGES = {
  1: "out of memory",
  3: "not a valid .lrq file: damaged, cut short, or another kind of file",
  4: "made for a newer decoder",
  5: "the image is larger than the limit",
};
const FIELDS = ["width", "height", "colour", "smoothing", "rank", "iterations", "band", "alpha"];

/**
 * Whatever goes wrong. `code` is the exit code of SPEC.md, "Errors": 1 a file cannot be read or memory is short, 2
 * wrong usage, 3 not a valid .lrq file, 4 a newer version or another model, 5 larger than the limit.
 */
export class LrqError extends Error {
  /**
   * @param {number} code 1 to 5
   * @param {string} message one line for the user
   */
  constructor(code, message) {
    super(message);
    this.name = "LrqError";
    this.code = code;
  }
}

/** @type {Promise<WebAssembly.Module> | undefined} */
let compiled;

/**
 * Say where lrqdec.wasm is. Needed only if it is not next to this file, and before anything else.
 *
 * @param {BufferSource | URL | string} source its bytes, or where to fetch them
 * @returns {Promise<WebAssembly.Module>} rejected with an LrqError if it cannot be fetched
 */
export function loadDecoder(source = new URL("lrqdec.wasm", import.meta.url)) {
  const module = compile(source);
  module.catch(() => {
    if (compiled === module) compiled = undefined; // the next call tries again
  });
  return (compiled = module);
}

async function compile(source) {
  const inPlace = source instanceof ArrayBuffer || ArrayBuffer.isView(source);
  return WebAssembly.compile(inPlace ? source : await fetchBytes(source));
}

/**
 * The bytes at a URL.
 *
 * @param {URL | string} url
 * @param {RequestInit} [options] of fetch
 * @returns {Promise<Uint8Array>} rejected with an LrqError of code 1 if there are none; with fetch's error if aborted
 */
export async function fetchBytes(url, options) {
  let response;
  try {
    response = await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new LrqError(1, `${url}: cannot be fetched`);
  }
  if (!response.ok) throw new LrqError(1, `${url}: ${response.status} ${response.statusText}`.trim());
  return new Uint8Array(await response.arrayBuffer());
}

/**
 * The header of a file; the first 64 bytes are enough, but it takes the first chunk to tell damage.
 *
 * @param {BufferSource} bytes
 * @returns {Promise<{width: number, height: number, colour: number, smoothing: number, rank: number,
 *   iterations: number, band: number, alpha: number, model: string}>} the fields of SPEC.md; `model` in hexadecimal
 * @throws {LrqError} code 3 or 4
 */
export async function readHeader(bytes) {
  return new Decoder(await (compiled ?? loadDecoder())).readHeader(view(bytes));
}

/**
 * Open a model: what `lrq models export NAME -o MODEL.lrqm` writes.
 *
 * @param {BufferSource} bytes the .lrqm file; copied
 * @returns {Promise<Model>}
 * @throws {LrqError} code 4 if it is damaged or no model
 */
export async function openModel(bytes) {
  return new Model(await (compiled ?? loadDecoder()), view(bytes));
}

/**
 * The pixels of a file. It takes as long as it takes: for large images call it in a worker.
 *
 * @param {BufferSource} bytes the .lrq file
 * @param {Model} model
 * @param {object} [options]
 * @param {number} [options.shrink] 2, 4, 8 or 16 draws the image at so much smaller a size, in less time
 * @param {boolean} [options.partial] draw what an incomplete file holds, instead of refusing it
 * @param {number} [options.maxPixels] refuse larger images
 * @returns {ImageData & {incomplete: boolean}} RGBA, colours not multiplied by alpha; `incomplete` if something of the
 *   file was missing, which only `partial` lets happen
 * @throws {LrqError}
 */
export function decode(bytes, model, options) {
  return model.decode(view(bytes), options);
}

/** An open model. `openModel` makes it. */
export class Model {
  #module;
  /** @type {Decoder | null} */
  #decoder;
  /** @type {Uint8Array | null} of the .lrqm file, while there is no decoder that has them */
  #bytes = null;

  /** @hideconstructor */
  constructor(module, bytes) {
    this.#module = module;
    this.#decoder = new Decoder(module, bytes);
    /** In hexadecimal; that of the files that the model decodes. */
    this.fingerprint = this.#decoder.fingerprint;
  }

  /** See `decode`. */
  decode(bytes, { shrink = 1, partial = false, maxPixels = MAX_PIXELS } = {}) {
    if (!SHRINKS.includes(shrink)) throw new LrqError(2, `shrink must be one of ${SHRINKS.join(", ")}`);
    if (!(maxPixels >= 1)) throw new LrqError(2, "maxPixels must be 1 or more");
    if (!this.#decoder) {
      if (!this.#bytes) throw new LrqError(2, "the model is closed");
      this.#decoder = new Decoder(this.#module, this.#bytes);
      this.#bytes = null;
    }
    const decoder = this.#decoder;
    let sound = false;
    try {
      const image = decoder.decode(bytes, shrink, partial, Math.min(Math.floor(maxPixels), 2 ** 32));
      sound = true;
      return image;
    } catch (error) {
      sound = error instanceof LrqError;
      throw error;
    } finally {
      // Memory of WebAssembly never shrinks, and who knows what is in it after a fault.
      if (!sound || decoder.size > decoder.model.length + KEEP) {
        this.#bytes = decoder.model.slice();
        this.#decoder = null;
      }
    }
  }

  /** Free its memory; it decodes no more. */
  close() {
    this.#decoder = this.#bytes = null;
  }
}

/** An instance of the WebAssembly module: one memory, with at most one model in it. */
class Decoder {
  /** Of the model, in hexadecimal. */
  fingerprint = "";
  #wasm;
  #at = 0;
  #length = 0;

  constructor(module, model) {
    this.#wasm = new WebAssembly.Instance(module).exports;
    if (!model) return;
    [this.#at, this.#length] = [this.#put(model), model.length];
    const code = this.#wasm.open_model(this.#at, this.#length);
    if (code) throw new LrqError(code, code === MEMORY ? MESSAGES[MEMORY] : "not a model that this decoder can read");
    this.fingerprint = this.#fingerprint();
  }

  /** Bytes of its memory. */
  get size() {
    return this.#wasm.memory.buffer.byteLength;
  }

  /** The bytes of the model, where they are. */
  get model() {
    return this.#bytes(this.#at, this.#length);
  }

  readHeader(bytes) {
    return this.#call(() => {
      const code = this.#wasm.read_header(this.#put(bytes), bytes.length);
      if (code) throw new LrqError(code, MESSAGES[code]);
      return { ...this.#fields(), model: this.#fingerprint() };
    });
  }

  decode(bytes, shrink, partial, maxPixels) {
    return this.#call(() => {
      const code = this.#wasm.decode(this.#put(bytes), bytes.length, shrink, partial, maxPixels);
      if (code && code !== INCOMPLETE) {
        const needed = this.#fingerprint(); // zeros if the header is not valid
        const other = code === 4 && /[^0]/.test(needed) && needed !== this.fingerprint;
        throw new LrqError(code, other ? `the file needs model ${needed}` : MESSAGES[code]);
      }
      const { width, height } = this.#fields();
      const [columns, rows] = [Math.ceil(width / shrink), Math.ceil(height / shrink)];
      const pixels = this.#bytes(this.#wasm.get_pixels(), 4 * columns * rows);
      return Object.assign(image(pixels, columns, rows), { incomplete: code === INCOMPLETE });
    });
  }

  #call(work) {
    try {
      return work();
    } finally {
      this.#wasm.reset();
    }
  }

  /** Of the last model or file. */
  #fingerprint() {
    return [...this.#bytes(this.#wasm.get_fingerprint(), 4)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  #fields() {
    const values = new Int32Array(this.#wasm.memory.buffer, this.#wasm.get_fields(), FIELDS.length);
    return Object.fromEntries(FIELDS.map((name, i) => [name, values[i]]));
  }

  /** Copies bytes into the memory; where they are. */
  #put(bytes) {
    const at = this.#wasm.allocate(bytes.length) >>> 0;
    if (!at) throw new LrqError(MEMORY, MESSAGES[MEMORY]);
    this.#bytes(at, bytes.length).set(bytes);
    return at;
  }

  #bytes(at, length) {
    return new Uint8Array(this.#wasm.memory.buffer, at >>> 0, length);
  }
}

/** A Uint8Array of the bytes, not copied. */
function view(bytes) {
  if (bytes instanceof ArrayBuffer) return new Uint8Array(bytes);
  if (ArrayBuffer.isView(bytes)) return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  throw new LrqError(2, "bytes must be an ArrayBuffer or a view of one");
}

/** An ImageData with a copy of the pixels; where there are none (Node.js), an object like it. */
function image(pixels, width, height) {
  try {
    const data = new Uint8ClampedArray(pixels);
    if (typeof ImageData === "undefined") return { data, width, height, colorSpace: "srgb" };
    return new ImageData(data, width, height);
  } catch {
    throw new LrqError(MEMORY, MESSAGES[MEMORY]); // no array is so large
  }
}

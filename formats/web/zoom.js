/** Moves and scales a picture on a stage: by wheel, by pointers (one moves, two pinch), by keys. */

const STEP = 1.25;
const LARGEST = 64;
const PAN = 48;
const ARROWS = { ArrowLeft: [PAN, 0], ArrowRight: [-PAN, 0], ArrowUp: [0, PAN], ArrowDown: [0, -PAN] };

/** The place of a picture on its stage. Lengths are in CSS pixels. */
export class Zoom {
  /** A pixel of the picture takes so many of the stage. */
  scale = 1;
  x = 0;
  y = 0;
  #stage;
  #changed;
  #width = 0;
  #height = 0;
  /** Whether the picture follows the size of the stage. */
  #fitted = true;
  /** @type {Map<number, PointerEvent>} those that are down */
  #pointers = new Map();

  /**
   * @param {HTMLElement} stage
   * @param {() => void} changed is called whenever the picture moved
   */
  constructor(stage, changed) {
    this.#stage = stage;
    this.#changed = changed;
    stage.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this.#down(event));
    stage.addEventListener("pointermove", (event) => this.#move(event));
    for (const type of ["pointerup", "pointercancel"]) stage.addEventListener(type, (event) => this.#up(event));
    stage.addEventListener("dblclick", () => (this.#fitted ? this.actual() : this.fit()));
    stage.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => (this.#fitted ? this.fit() : this.#show())).observe(stage);
  }

  /** Pixels of the screen that a pixel of the picture takes. */
  get factor() {
    return this.scale * devicePixelRatio;
  }

  /** Another picture; one of the same size stays where it is. */
  setSize(width, height) {
    if (width === this.#width && height === this.#height) return this.#show();
    [this.#width, this.#height] = [width, height];
    this.fit();
  }

  /** All of the picture, as large as it gets; by whole factors where pixels of the screen can be seen. */
  fit() {
    if (!this.#width) return; // there is no picture yet
    const { clientWidth, clientHeight } = this.#stage;
    const factor = Math.min(clientWidth / this.#width, clientHeight / this.#height) * devicePixelRatio || 1;
    const whole = factor < 1 || devicePixelRatio >= 2 ? factor : Math.floor(factor);
    this.scale = Math.min(whole / devicePixelRatio, LARGEST);
    this.x = (clientWidth - this.#width * this.scale) / 2;
    this.y = (clientHeight - this.#height * this.scale) / 2;
    this.#fitted = true;
    this.#changed();
  }

  /** A pixel of the picture is one of the screen. */
  actual() {
    this.#to(1 / devicePixelRatio);
  }

  in() {
    this.#to(this.scale * STEP);
  }

  out() {
    this.#to(this.scale / STEP);
  }

  /** The point (x, y) of the stage, its middle by default, stays where it is. */
  #to(scale, x = this.#stage.clientWidth / 2, y = this.#stage.clientHeight / 2) {
    if (!this.#width) return;
    const { clientWidth, clientHeight } = this.#stage;
    const smallest = Math.min(clientWidth / this.#width, clientHeight / this.#height, 1) / 4;
    const next = Math.min(Math.max(scale, smallest), LARGEST);
    this.x = x - ((x - this.x) * next) / this.scale;
    this.y = y - ((y - this.y) * next) / this.scale;
    this.scale = next;
    this.#show();
  }

  #pan(dx, dy) {
    if (!this.#width) return;
    this.x += dx;
    this.y += dy;
    this.#show();
  }

  /** A part of the picture stays on the stage. */
  #show() {
    const { clientWidth, clientHeight } = this.#stage;
    this.x = Math.min(Math.max(this.x, PAN - this.#width * this.scale), clientWidth - PAN);
    this.y = Math.min(Math.max(this.y, PAN - this.#height * this.scale), clientHeight - PAN);
    this.#fitted = false;
    this.#changed();
  }

  #at(event) {
    const box = this.#stage.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #wheel(event) {
    event.preventDefault();
    const lines = event.deltaMode ? 16 : 1;
    this.#to(this.scale * Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.002)), ...this.#at(event));
  }

  #down(event) {
    if (event.button) return;
    this.#stage.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, event);
    this.#stage.classList.add("moving");
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const other = [...this.#pointers.values()].find((pointer) => pointer !== before);
    this.#pointers.set(event.pointerId, event);
    const [x, y] = this.#at(event);
    const [oldX, oldY] = this.#at(before);
    if (!other) return this.#pan(x - oldX, y - oldY);
    const [otherX, otherY] = this.#at(other);
    const ratio = Math.hypot(x - otherX, y - otherY) / (Math.hypot(oldX - otherX, oldY - otherY) || 1);
    this.#to(this.scale * ratio, (x + otherX) / 2, (y + otherY) / 2);
    this.#pan((x - oldX) / 2, (y - oldY) / 2);
  }

  #up(event) {
    this.#pointers.delete(event.pointerId);
    if (!this.#pointers.size) this.#stage.classList.remove("moving");
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { key } = event;
    if (key in ARROWS) this.#pan(...ARROWS[key]);
    else if (key === "+" || key === "=") this.in();
    else if (key === "-") this.out();
    else if (key === "0") this.fit();
    else if (key === "1") this.actual();
    else return;
    event.preventDefault();
  }
}

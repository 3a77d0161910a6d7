// A grid of any number of items, of which only those near the screen are in the page. Knows places, and not what an item is.
//
// A browser cannot scroll as far as a million pictures are high. Beyond MOST pixels a step of the scroll bar is more than
// a pixel; the wheel and the keys still move by pixels, and the bar follows when they rest.
import { element } from "./asking.js";

const MOST = 8_000_000, BLOCK = 100, AROUND = 1.0, HEADING = 34, SIDE = 16, NARROW = 160, WIDE = 320;
export const GAP = 10;

export class Grid {
  // load(offset, limit, signal): items. draw(item, at): the element of one.
  constructor(scroller, canvas, { load, draw }) {
    Object.assign(this, { scroller, canvas, load, draw, groups: [], blocks: new Map(), shown: new Map() });
    Object.assign(this, { top: 0, bar: 0, current: 0, perLine: 1, across: 0, complain: () => {}, laid: () => {} });
    scroller.addEventListener("scroll", () => this.scrolled());
    new ResizeObserver(() => this.resized()).observe(scroller);
  }

  // Show other items. groups: [{title, count}] with null titles where there are none. more: how much higher an item is
  // than it is wide. across: of how many an item consists, if it fills a line.
  open(groups, more, across) {
    for (const block of this.blocks.values()) block.stop?.abort();
    this.blocks.clear();
    this.clear();
    Object.assign(this, { groups, more, across, count: groups.reduce((sum, group) => sum + group.count, 0) });
    Object.assign(this, { top: 0, bar: 0, current: 0 });
    this.lay();
    this.laid();
    this.scroller.scrollTop = 0;
    this.render();
  }

  clear() {
    for (const one of this.shown.values()) one.remove();
    this.shown.clear();
  }

  lay() {
    const room = this.scroller.clientWidth - 2 * SIDE + GAP;
    const beside = this.across || Math.max(1, Math.floor(room / (NARROW + GAP)));
    this.wide = Math.min(Math.max(Math.floor(room / beside) - GAP, this.across ? NARROW : 0), WIDE);
    this.tall = this.wide + this.more;
    this.perLine = this.across ? 1 : beside;
    this.canvas.style.setProperty("--wide", `${this.wide}px`);
    this.canvas.style.setProperty("--tall", `${this.tall}px`);
    this.canvas.style.width = this.across ? `max(100%, ${2 * SIDE + this.across * (this.wide + GAP) - GAP}px)` : "";
    let top = GAP, first = 0;
    for (const group of this.groups) {
      const lines = Math.ceil(group.count / this.perLine);
      Object.assign(group, { top, first, head: group.title === null ? 0 : HEADING });
      top += group.head + lines * (this.tall + GAP);
      first += group.count;
    }
    this.height = top;
    this.canvas.style.height = `${Math.max(Math.min(this.height, MOST), this.scroller.clientHeight)}px`;
  }

  get furthest() { return Math.max(0, this.height - this.scroller.clientHeight); }
  get barLength() { return Math.max(1, Math.min(this.height, MOST) - this.scroller.clientHeight); }

  scrolled() {
    const bar = this.scroller.scrollTop, moved = bar - this.bar;
    if (moved === 0) return;
    this.bar = bar;
    if (this.height <= MOST) this.top = bar;
    else if (bar <= 0) this.top = 0;
    else if (bar >= this.barLength) this.top = this.furthest;
    else if (Math.abs(moved) < this.scroller.clientHeight * 2) this.top += moved;
    else this.top = (bar / this.barLength) * this.furthest;
    this.top = Math.min(Math.max(0, this.top), this.furthest);
    this.render();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.follow(), 200);
  }

  // Set the bar to where it belongs.
  follow() {
    if (this.height > MOST) this.scroller.scrollTop = Math.round((this.top / this.furthest) * this.barLength);
    else this.scroller.scrollTop = this.top;
    this.bar = this.scroller.scrollTop;
    this.render();
  }

  resized() {
    if (!this.groups.length) return;
    const before = this.perLine, at = this.current;
    this.lay();
    this.laid();
    this.clear();
    if (before !== this.perLine) this.reveal(at);
    else this.render();
  }

  groupAt(found) {
    let low = 0, high = this.groups.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (found(this.groups[middle])) low = middle; else high = middle - 1;
    }
    return this.groups[low];
  }

  topOf(item) {
    const group = this.groupAt((one) => one.first <= item);
    return group.top + group.head + Math.floor((item - group.first) / this.perLine) * (this.tall + GAP);
  }

  render() {
    if (!this.groups.length) return;
    const view = this.scroller.clientHeight, from = this.top - view * AROUND, to = this.top + view * (1 + AROUND);
    const shift = this.scroller.scrollTop - this.top, wanted = new Map();
    let at = this.groups.indexOf(this.groupAt((group) => group.top <= Math.max(from, 0)));
    let first = this.count, last = 0;
    for (; at < this.groups.length && this.groups[at].top < to; at++) {
      const group = this.groups[at], step = this.tall + GAP, body = group.top + group.head;
      if (group.head) wanted.set(`group ${at}`, { group, top: group.top });
      const begin = Math.max(0, Math.floor((from - body) / step)) * this.perLine;
      const end = Math.min(group.count, Math.ceil((to - body) / step) * this.perLine);
      for (let i = begin; i < end; i++) {
        const left = SIDE + (i % this.perLine) * (this.wide + GAP);
        wanted.set(group.first + i, { top: body + Math.floor(i / this.perLine) * step, left });
      }
      if (begin < end) { first = Math.min(first, group.first + begin); last = Math.max(last, group.first + end); }
    }
    this.fetch(first, last);
    for (const [key, one] of this.shown) if (!wanted.has(key)) { this.forget(one); this.shown.delete(key); }
    for (const [key, place] of wanted) this.put(key, place, shift);
  }

  // An image that is on its way is wanted no more.
  forget(one) {
    for (const image of one.querySelectorAll("img")) image.removeAttribute("src");
    one.remove();
  }

  put(key, place, shift) {
    let one = this.shown.get(key);
    if (!one) {
      one = place.group ? heading(place.group) : this.made(key);
      if (!one) return;
      this.shown.set(key, one);
      this.canvas.append(one);
    }
    one.style.top = `${place.top + shift}px`;
    if (place.left !== undefined && !this.across) one.style.left = `${place.left}px`;
  }

  made(item) {
    const known = this.item(item);
    return known === undefined ? null : this.draw(known, item);
  }

  item(at) { return this.blocks.get(Math.floor(at / BLOCK))?.items?.[at % BLOCK]; }

  fetch(first, last) {
    const low = Math.floor(first / BLOCK), high = Math.floor((last - 1) / BLOCK);
    for (const [at, block] of this.blocks) if (at < low - 1 || at > high + 1) { block.stop.abort(); this.blocks.delete(at); }
    for (let at = low; at <= high; at++) if (!this.blocks.has(at)) this.bring(at);
  }

  async bring(at) {
    const block = { stop: new AbortController() };
    this.blocks.set(at, block);
    try {
      block.items = await this.load(at * BLOCK, BLOCK, block.stop.signal);
      if (this.blocks.get(at) === block) this.render();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.complain(error);
    }
  }

  // Draw an item again, which has changed.
  redraw(at) {
    const one = this.shown.get(at);
    if (!one) return;
    this.forget(one);
    this.shown.delete(at);
    this.render();
  }

  go(item) {
    const before = this.current;
    this.current = Math.min(Math.max(0, item), this.count - 1);
    this.shown.get(before)?.classList.remove("current");
    this.reveal(this.current);
    this.shown.get(this.current)?.classList.add("current");
  }

  reveal(item) {
    if (!this.count) return;
    const top = this.topOf(item), view = this.scroller.clientHeight;
    if (top - HEADING < this.top) this.top = Math.max(0, top - HEADING - GAP);
    else if (top + this.tall + GAP > this.top + view) this.top = Math.min(this.furthest, top + this.tall + GAP - view);
    this.follow();
  }

  get page() { return Math.max(1, Math.floor(this.scroller.clientHeight / (this.tall + GAP))); }
}

function heading(group) {
  const one = element("div", group.title, "group");
  one.append(element("span", `  ${group.count.toLocaleString("en")}`));
  return one;
}

// Updates a page without reloading it: requests the page again and replaces the regions whose HTML has changed.
// Rows of the worklist are matched by study; while the pointer or the focus is on them, updates wait, so that no row moves.

const main = document.getElementById("content");
const live = document.getElementById("live");
const pill = document.getElementById("held");
const interval = Number(main.dataset.poll || 0);
const RESTING = 8000; // milliseconds without a movement after which a pointer over the list no longer delays updates
const served = new Map(regions(document).map((region) => [region.id, region.innerHTML]));
let validator = "";
let clockOffset = 0; // the server's clock minus this one: waiting times are computed by the server's clock
let lastTouch = 0;
let pointer = null;
let held = null;
let lost = null;

function regions(page) {
  return [...page.querySelectorAll("[data-region]")];
}

function say(state, words) {
  if (live.dataset.state === state && state !== "lost") return;
  live.dataset.state = state;
  live.querySelector(".words").textContent = words;
}

async function poll() {
  try {
    const answer = await fetch(location.href, {
      headers: validator ? { "If-None-Match": validator } : {}, cache: "no-store", signal: AbortSignal.timeout(15000),
    });
    if (answer.status !== 304 && !answer.ok) throw new Error(`answer ${answer.status}`);
    clockOffset = Date.parse(answer.headers.get("date")) - Date.now() || 0;
    say("live", "live");
    lost = null;
    if (answer.status === 200) {
      const text = await answer.text();
      validator = answer.headers.get("etag") || "";
      take(new DOMParser().parseFromString(text, "text/html"));
    }
  } catch (error) {
    lost ??= new Date();
    say("lost", `not updated since ${clock(lost)}: ${error.name === "TypeError" ? "no connection" : error.message}`);
  }
  tick();
  setTimeout(poll, document.hidden ? interval * 5 : interval);
}

function take(page) {
  const focus = focused();
  for (const fresh of regions(page)) {
    const html = fresh.innerHTML;
    const region = document.getElementById(fresh.id);
    if (!region || served.get(fresh.id) === html) continue;
    if ([...region.querySelectorAll("form input[type=text]")].some((input) => input.value)) continue; // being filled in
    if (region.dataset.keyed !== undefined) {
      held = { fresh, html };
      settle(false);
      continue;
    }
    const open = [...region.querySelectorAll("details[open]")].map((details) => details.id);
    region.innerHTML = html;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    served.set(fresh.id, html);
  }
  refocus(focus);
  document.title = page.title;
}

// The worklist

function inUse(body) {
  const hovered = body.matches(":hover") || body.contains(document.activeElement);
  return hovered && Date.now() - lastTouch < RESTING;
}

function settle(now) {
  if (!held) return;
  const body = document.getElementById(held.fresh.id);
  if (!now && inUse(body)) {
    pill.textContent = `${changes(body, held.fresh)} – press r to show`;
    pill.hidden = false;
    return;
  }
  const { fresh, html } = held;
  held = null;
  pill.hidden = true;
  reconcile(body, fresh);
  served.set(fresh.id, html);
  tick();
}

function changes(body, fresh) {
  const known = new Map([...body.rows].map((row) => [row.dataset.key, row.dataset.version]));
  const added = [...fresh.rows].filter((row) => !known.has(row.dataset.key));
  const urgent = added.filter((row) => row.classList.contains("high")).length;
  const changed = [...fresh.rows].filter(
    (row) => known.has(row.dataset.key) && known.get(row.dataset.key) !== row.dataset.version).length;
  const parts = [];
  if (added.length) parts.push(`${added.length} new${urgent ? ` (${urgent} HIGH)` : ""}`);
  if (changed) parts.push(`${changed} changed`);
  return parts.join(", ") || "order changed";
}

function reconcile(body, fresh) {
  const anchor = anchorRow(body);
  const top = anchor?.row.getBoundingClientRect().top;
  const focus = focused();
  const before = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const rows = [...fresh.rows].map((row) => {
    const known = before.get(row.dataset.key);
    if (known && known.dataset.version === row.dataset.version) return known;
    const replacement = document.importNode(row, true);
    if (!known) replacement.classList.add("fresh");
    else keepPicture(known, replacement);
    return replacement;
  });
  body.replaceChildren(...rows);
  refocus(focus);
  const moved = anchor && rows.find((row) => row.dataset.key === anchor.key);
  if (moved) scrollBy(0, moved.getBoundingClientRect().top - top);
}

function keepPicture(known, replacement) {
  const [old, fresh] = [known.querySelector(".image"), replacement.querySelector(".image")];
  const sources = (cell) => [...cell.querySelectorAll("img")].map((image) => image.getAttribute("src")).join();
  if (old && fresh && sources(old) === sources(fresh)) fresh.replaceWith(old);
}

// The row that must keep its position: under the pointer, else focused, else the first visible one of a scrolled list.
function anchorRow(body) {
  const under = pointer && document.elementFromPoint(pointer.x, pointer.y)?.closest("tr");
  let row = under && body.contains(under) ? under : document.activeElement.closest("tr");
  if (!row && scrollY > 0) row = [...body.rows].find((each) => each.getBoundingClientRect().bottom > 120);
  return row && body.contains(row) ? { row, key: row.dataset.key } : null;
}

function focused() {
  const element = document.activeElement;
  return element?.getAttribute("href") && element.closest("[data-region]") ? element.getAttribute("href") : null;
}

function refocus(href) {
  if (!href || document.activeElement?.getAttribute("href") === href) return;
  document.querySelector(`[data-region] a[href="${CSS.escape(href)}"]`)?.focus({ preventScroll: true });
}

// Times in the browser's zone; waiting times by the server's clock

function clock(date) {
  return date.toTimeString().slice(0, 8);
}

function lasting(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.max(0, Math.floor(seconds / 5) * 5)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${String(minutes % 60).padStart(2, "0")}`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

function tick() {
  const now = Date.now() + clockOffset;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    const day = `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
    const local = date.toDateString() === new Date(now).toDateString() ? clock(date) : `${day} ${clock(date)}`;
    const text = "since" in time.dataset ? lasting((now - date) / 1000) : local;
    if (time.textContent !== text) time.textContent = text;
    time.title = "since" in time.dataset ? `arrived ${day} ${clock(date)}` : `${day} ${clock(date)}`;
  }
}

// Keys of every page

let chord = "";
document.addEventListener("keydown", (event) => {
  lastTouch = Date.now();
  if (event.target.matches("input[type=text]")) return;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (chord === "g") {
    const target = { w: "/", l: "/ledger", s: "/system" }[event.key];
    if (target) location.assign(target);
  }
  chord = event.key;
  if (event.key === "r") settle(true);
});
document.addEventListener("pointermove", (event) => {
  lastTouch = Date.now();
  pointer = { x: event.clientX, y: event.clientY };
});
pill.addEventListener("click", () => settle(true));

document.documentElement.classList.add("scripted");
tick();
setInterval(tick, 5000);
setInterval(() => settle(false), 500);
if (interval) poll();
else live.hidden = true;

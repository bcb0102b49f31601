// The viewer: choice of the label's overlay, its opacity, inversion, actual pixels. The overlay is a separate image over
// the radiograph, so its opacity is a matter of style.

const slider = document.getElementById("opacity");
const shown = document.getElementById("opacity-value");
const style = document.getElementById("style");
const root = document.documentElement;
let before = 100; // strength to return to when the overlay is switched on again

function strength(value) {
  slider.value = String(Math.min(100, Math.max(0, value)));
  root.style.setProperty("--overlay", Number(slider.value) / 100);
  shown.textContent = `${slider.value} %`;
  sessionStorage.setItem("overlay", slider.value);
}

function toggle(name) {
  const on = root.classList.toggle(name);
  document.getElementById(name === "inverted" ? "invert" : "zoom").setAttribute("aria-pressed", String(on));
}

function show(link) {
  const layers = document.getElementById("layers");
  let overlay = document.getElementById("overlay");
  if (layers && link.dataset.overlay) {
    if (!overlay) {
      overlay = Object.assign(document.createElement("img"), { id: "overlay", className: "overlay" });
      layers.append(overlay);
    }
    overlay.src = link.dataset.overlay;
    overlay.alt = `Overlay: evidence for ${link.dataset.label}`;
  }
  document.getElementById("caption").textContent = link.dataset.caption;
  const floor = document.getElementById("floor");
  if (floor) {
    floor.textContent = link.dataset.floor;
    document.getElementById("highest").textContent = link.dataset.highest;
    floor.parentElement.title = link.dataset.scale;
  }
  for (const other of document.querySelectorAll(".switcher a")) other.removeAttribute("aria-current");
  link.setAttribute("aria-current", "true");
  history.replaceState(null, "", link.getAttribute("href"));
}

// Colours, contours or both: every overlay's address names the style, and so does the page's, which is polled.
function restyle(value) {
  style.value = value;
  sessionStorage.setItem("style", value);
  const swapped = (address) => address.replace(/style=\w+/, `style=${value}`);
  for (const link of document.querySelectorAll(".switcher a")) {
    link.dataset.overlay = swapped(link.dataset.overlay);
    link.setAttribute("href", swapped(link.getAttribute("href")));
  }
  const current = document.querySelector(".switcher a[aria-current]");
  if (current) show(current);
}

style.addEventListener("change", () => restyle(style.value));
slider.addEventListener("input", () => strength(Number(slider.value)));
document.getElementById("invert").addEventListener("click", () => toggle("inverted"));
document.getElementById("zoom").addEventListener("click", () => toggle("zoomed"));
document.addEventListener("click", (event) => {
  const link = event.target.closest(".switcher a");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  show(link);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input[type=text], select")) return;
  const go = { n: ".identity [rel=next]", p: ".identity [rel=prev]" }[event.key];
  if (go) document.querySelector(go)?.click();
  else if (event.key === "u") location.assign("/");
  else if (event.key === "i") toggle("inverted");
  else if (event.key === "z") toggle("zoomed");
  else if (event.key === "[") strength(Number(slider.value) - 10);
  else if (event.key === "]") strength(Number(slider.value) + 10);
  else if (event.key === "c") restyle(style.options[(style.selectedIndex + 1) % style.options.length].value);
  else if (event.key === "o") {
    const value = Number(slider.value);
    if (value) before = value;
    strength(value ? 0 : before);
  } else if (/^[1-9]$/.test(event.key)) {
    const link = document.querySelectorAll(".switcher a")[Number(event.key) - 1];
    if (link) show(link);
  }
});

// An image that cannot be drawn is replaced by the reason.
async function explain(picture) {
  const answer = await fetch(picture.src).catch(() => null);
  const reason = Object.assign(document.createElement("p"), { className: "nothing" });
  reason.textContent = answer && !answer.ok ? await answer.text() : "The image could not be loaded.";
  picture.closest(".layers")?.replaceChildren(reason);
}

document.addEventListener("error", (event) => {
  if (event.target instanceof HTMLImageElement && event.target.matches(".gray")) explain(event.target);
}, true);
for (const picture of document.querySelectorAll("img.gray")) {
  if (picture.complete && !picture.naturalWidth) explain(picture); // it failed before this script ran
}

strength(Number(sessionStorage.getItem("overlay") ?? 100));
const chosen = sessionStorage.getItem("style");
if (chosen && chosen !== style.value && !new URLSearchParams(location.search).has("style")) restyle(chosen);

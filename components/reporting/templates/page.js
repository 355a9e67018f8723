"use strict";
const $ = (s, e = document) => e.querySelector(s), $$ = (s, e = document) => [...e.querySelectorAll(s)];
const D = JSON.parse($("#data").textContent), root = document.documentElement, SIDE = 28;
const num = (v, d) => v.toFixed(d).replace("-", "\u2212");
const short = v => String(+v.toPrecision(4)).replace("-", "\u2212");
// Theme: the system's, unless the reader chose one.
const themes = ["auto", "light", "dark"], themeButton = $("#theme");
function setTheme(theme) {
  if (theme === "auto") delete root.dataset.theme; else root.dataset.theme = theme;
  themeButton.lastElementChild.textContent = theme;
  try { if (theme === "auto") localStorage.removeItem("latentline-theme"); else localStorage.setItem("latentline-theme", theme); } catch { /* a page from disk may have no storage */ }
  drawDifferences();
}
themeButton.onclick = () => setTheme(themes[(themes.indexOf(root.dataset.theme || "auto") + 1) % 3]);
// Tooltips open on hover, focus and tap, and close with Escape.
const tip = $("#tip");
function show(text, x, y) {
  tip.textContent = text; tip.classList.add("on");
  const w = tip.offsetWidth, h = tip.offsetHeight;
  tip.style.left = Math.max(8, Math.min(x - w / 2, innerWidth - w - 8)) + "px";
  tip.style.top = (y - h - 14 > 4 ? y - h - 14 : y + 22) + "px";
}
const hide = () => tip.classList.remove("on");
addEventListener("pointermove", e => { if (e.pointerType === "touch") return; const t = e.target.closest?.("[data-tip]"); if (t) show(t.dataset.tip, e.clientX, e.clientY); else if (!e.target.closest?.("[data-panel]")) hide(); });
addEventListener("pointerdown", e => { if (e.pointerType === "touch" && !e.target.closest?.("[data-panel]")) hide(); });
addEventListener("focusin", e => { const t = e.target.closest("[data-tip]"), r = t?.getBoundingClientRect(); if (t) { if (t.matches(":focus-visible")) show(t.dataset.tip, r.left + r.width / 2, r.top + 6); } else if (!e.target.dataset.panel) hide(); });
addEventListener("keydown", e => { if (e.key === "Escape") hide(); });
addEventListener("scroll", hide, { passive: true });
// A group is one tab stop; arrow keys, Home and End move within it.
function rove(items, columns = 1) {
  items.forEach((item, i) => item.setAttribute("tabindex", i ? -1 : 0));
  items.forEach((item, i) => item.addEventListener("keydown", e => {
    const own = item.dataset.panel !== undefined && (e.key === "ArrowLeft" || e.key === "ArrowRight");
    const step = own ? 0 : { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -i, End: items.length - 1 - i }[e.key];
    const next = step ? items[i + step] : null;
    if (!next) return;
    e.preventDefault();
    items.forEach(o => o.setAttribute("tabindex", -1));
    next.setAttribute("tabindex", 0); next.focus();
  }));
}
rove($$(".v > summary"));
$$("[data-roving]").forEach(group => { const items = $$("a, button, [data-panel]", group); if (items.length > 1) rove(items); });
// Tables sort by the value behind a cell; missing values come last.
$$(".sortable").forEach(t => { const heads = [...t.tHead.rows[0].cells]; heads.forEach((h, i) => $("button", h)?.addEventListener("click", () => {
  const up = h.getAttribute("aria-sort") === "descending"; heads.forEach(o => o.removeAttribute("aria-sort")); h.setAttribute("aria-sort", up ? "ascending" : "descending");
  [...t.tBodies[0].rows].sort((a, b) => { const [x, y] = [a, b].map(r => r.cells[i].dataset.v); return (x === "") - (y === "") || (up ? 1 : -1) * (x - y); }).forEach(r => t.tBodies[0].append(r)); })); });
// Curves: the pointer or the arrow keys read values.
$$("[data-panel]").forEach(box => {
  const p = D.panels[box.dataset.panel]; if (!p) return;
  const f = p.log ? Math.log : v => v, main = p.s[p.s.length - 1][1]; let at = null, over;
  const Y = v => 100 * (f(p.hi) - f(v)) / (f(p.hi) - f(p.lo));
  function read(step) {
    const lines = p.s.map(([n, s]) => [n, s.reduce((a, b) => Math.abs(b[0] - step) < Math.abs(a[0] - step) ? b : a)]);
    if (!over) { box.insertAdjacentHTML("beforeend", '<svg aria-hidden="true"></svg>'); over = box.lastChild; }
    const x = 100 * step / p.n;
    over.innerHTML = `<line class="cross" x1="${x}%" x2="${x}%" y1="0" y2="100%"/>` + lines.map(([, q]) => { const y = Y(q[1]); return y >= 0 && y <= 100 ? `<circle class="cdot" cx="${100 * q[0] / p.n}%" cy="${y}%" r="3.5"/>` : ""; }).join("");
    const r = box.getBoundingClientRect();
    show(lines.reverse().map(([n, q]) => `${n} ${short(q[1])}${p.u ? " " + p.u : ""} at step ${q[0].toLocaleString("en").replace(",", "\u202f")}`).join("\n"), r.left + r.width * x / 100, r.top + 4);
  }
  const off = () => { if (over) over.innerHTML = ""; hide(); };
  ["pointerdown", "pointermove"].forEach(type => box.addEventListener(type, e => { const r = box.getBoundingClientRect(); const s = p.n * Math.min(1, Math.max(0, (e.clientX - r.left) / r.width)); read(main.reduce((a, b) => Math.abs(b[0] - s) < Math.abs(a[0] - s) ? b : a)[0]); }));
  box.addEventListener("pointerleave", e => { if (e.pointerType !== "touch") off(); }); box.addEventListener("blur", off);
  box.addEventListener("keydown", e => { const d = { ArrowRight: 1, ArrowLeft: -1 }[e.key]; if (!d) return; e.preventDefault(); at = at === null ? main.length - 1 : Math.min(main.length - 1, Math.max(0, at + d)); read(main[at][0]); });
});
// The wall of digits.
const wall = $(".wall"), original = $("#orig"), panes = $$(".card canvas");
const across = image => Math.round(image.naturalWidth / SIDE);
const ink = (image, k) => { const c = document.createElement("canvas"); c.width = c.height = SIDE; const g = c.getContext("2d", { willReadFrequently: true }); g.drawImage(image, SIDE * k, 0, SIDE, SIDE, 0, 0, SIDE, SIDE); return g.getImageData(0, 0, SIDE, SIDE).data; };
const rgb = name => { const s = document.createElement("i"); s.style.color = `var(--${name})`; root.append(s); const c = getComputedStyle(s).color.match(/[\d.]+/g).map(Number); s.remove(); return c; };
function difference(a, b, into, x) {
  const up = rgb("accent"), down = rgb("warn"), out = into.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) { const d = b[4 * i + 3] - a[4 * i + 3], c = d > 0 ? up : down; out.data.set([c[0], c[1], c[2], Math.min(255, Math.abs(d) * 1.15)], 4 * i); }
  into.putImageData(out, x, 0);
}
function drawDifferences() {
  if (!original?.complete || !original.naturalWidth) return;
  $$(".digits[data-wall]").forEach(row => { const image = $(".n", row), g = $(".d", row).getContext("2d"); if (image.complete) for (let k = 0; k < across(original); k++) difference(ink(original, k), ink(image, k), g, SIDE * k); });
}
function frame(moment) {
  $$(".f").forEach(f => {
    const image = $("img", f), steps = JSON.parse(f.dataset.steps), at = Math.min(moment, steps.length - 1), rows = steps.length;
    f.style.height = image.offsetHeight / rows + "px"; image.style.transform = `translateY(${-100 * at / rows}%)`;
  });
  const first = $(".f"); if (!first) return;
  const steps = JSON.parse(first.dataset.steps), at = Math.min(moment, steps.length - 1), last = steps[steps.length - 1];
  $("#moment-text").textContent = `${Math.round(100 * steps[at] / last)} % of the steps`;
}
function pick(row, k) {
  const images = [original, $(".n", row), $(".p", row)];
  $$("[aria-current]", wall).forEach(b => b.removeAttribute("aria-current")); $$(".hit button", row)[k].setAttribute("aria-current", "true");
  panes.forEach((c, i) => { const g = c.getContext("2d"); g.clearRect(0, 0, SIDE, SIDE); if (i < 3) { if (images[i]) g.drawImage(images[i], SIDE * k, 0, SIDE, SIDE, 0, 0, SIDE, SIDE); } else difference(ink(original, k), ink(images[1], k), g, 0); });
  $("#c-title b").textContent = `${row.dataset.wall}, image ${k + 1}`;
}
if (wall) {
  $("#mode").onclick = e => { if (!e.target.value) return; $$("#mode button").forEach(b => b.setAttribute("aria-pressed", b === e.target)); wall.dataset.mode = e.target.value; const film = e.target.value === "film"; $("#slide")?.toggleAttribute("hidden", !film); if (film) frame(+$("#moment").value); else drawDifferences(); };
  $("#moment")?.addEventListener("input", e => frame(+e.target.value));
  addEventListener("resize", () => { if (wall.dataset.mode === "film") frame(+$("#moment").value); });
  Promise.all($$(".digits > img", wall).map(i => i.decode())).then(() => {
    const rows = $$(".digits[data-wall]"), count = across(original);
    rows.forEach(r => {
      const hit = document.createElement("div"); hit.className = "hit"; hit.style.gridTemplateColumns = `repeat(${count},1fr)`; r.append(hit);
      for (let k = 0; k < count; k++) {
        const b = document.createElement("button"); b.type = "button"; b.ariaLabel = `${r.dataset.wall}, image ${k + 1}`; hit.append(b);
        ["pointerenter", "focus", "click"].forEach(t => b.addEventListener(t, () => { pick(r, k); $(".card").classList.add("live"); }));
      }
    });
    rove($$(".hit button"), count);
    drawDifferences(); pick(rows[0], Math.min(4, count - 1)); $(".card").classList.remove("live");
  }).catch(() => {});
}
// The latent plane: a blend of the four nearest decoded images, and the nearest test image.
const plane = $(".plane");
if (plane) {
  const g2 = $("#morph").getContext("2d"), hair = $(".hair"), P = D.planes, n = 20;
  let now = $("#pick").value, u = .36, v = .62;
  const tile = (canvas, image, i) => { const g = canvas.getContext("2d"); g.clearRect(0, 0, SIDE, SIDE); g.drawImage(image, SIDE * (i % n), SIDE * Math.floor(i / n), SIDE, SIDE, 0, 0, SIDE, SIDE); };
  const morph = () => {
    const image = $$(".plane > img").find(i => i.dataset.name === now), x = u * (n - 1), y = (1 - v) * (n - 1), i = Math.min(n - 2, Math.floor(x)), j = Math.min(n - 2, Math.floor(y)), a = x - i, b = y - j, p = P[now];
    g2.globalCompositeOperation = "source-over"; g2.globalAlpha = 1; g2.clearRect(0, 0, 280, 280); g2.globalCompositeOperation = "lighter"; g2.imageSmoothingQuality = "high";
    for (const [di, dj, w] of [[0, 0, (1 - a) * (1 - b)], [1, 0, a * (1 - b)], [0, 1, (1 - a) * b], [1, 1, a * b]]) { if (w < .004) continue; g2.globalAlpha = w; g2.drawImage(image, SIDE * (i + di), SIDE * (j + dj), SIDE, SIDE, 14, 14, 252, 252); }
    hair.style.left = 100 * u + "%"; hair.style.top = 100 * (1 - v) + "%";
    const near = p.at.reduce((best, [px, py], k) => { const d = (px - u) ** 2 + (py - v) ** 2; return d < best[0] ? [d, k] : best; }, [Infinity, 0])[1];
    tile($("#near"), $("#points"), near); tile($("#rebuilt"), $(`[data-rebuilt="${CSS.escape(now)}"]`), near);
    $("#m-text").textContent = (p.two ? `Prior quantiles ${num(.02 + .96 * u, 2)} and ${num(.02 + .96 * v, 2)} of the two latent units.` : `${num(4.4 * u - 2.2, 1)} and ${num(4.4 * v - 2.2, 1)} standard deviations along the first two of ${p.dims} principal components.`) + ` Nearest test image: a ${D.points[near]}. Of ${p.at.length} test images shown, ${p.outside} lie outside the frame.`;
  };
  const choose = name => {
    now = name; $$(".plane > img").forEach(i => i.toggleAttribute("hidden", i.dataset.name !== name)); $$(".plane g").forEach(g => g.toggleAttribute("hidden", g.dataset.plane !== name));
    const p = P[name]; $("#ticks").innerHTML = p.ticks.map(([at, l]) => `<span class="t" style="left:${at};top:calc(100% + 5px);transform:translateX(-50%)">${l}</span><span class="t" style="right:calc(100% + 7px);bottom:${at};transform:translateY(50%)">${l}</span>`).join("") + `<span class="t" style="left:0;right:0;top:calc(100% + 23px);text-align:center">${p.x}</span><span class="t" style="top:0;bottom:0;right:calc(100% + 32px);text-align:center;writing-mode:vertical-rl;transform:rotate(180deg)">${p.y}</span>`;
    morph();
  };
  $("#pick").onchange = e => choose(e.target.value);
  const move = e => { const r = plane.getBoundingClientRect(); u = Math.min(1, Math.max(0, (e.clientX - r.left) / r.width)); v = 1 - Math.min(1, Math.max(0, (e.clientY - r.top) / r.height)); morph(); };
  plane.addEventListener("pointerdown", e => { plane.setPointerCapture(e.pointerId); move(e); });
  plane.addEventListener("pointermove", e => { if (e.buttons || e.pointerType === "mouse") move(e); });
  plane.addEventListener("keydown", e => { const s = e.shiftKey ? .1 : .02, d = { ArrowRight: [s, 0], ArrowLeft: [-s, 0], ArrowUp: [0, s], ArrowDown: [0, -s] }[e.key]; if (!d) return; e.preventDefault(); u = Math.min(1, Math.max(0, u + d[0])); v = Math.min(1, Math.max(0, v + d[1])); morph(); });
  $("#lg").onclick = e => { const b = e.target.closest("button"); if (!b) return; const on = b.getAttribute("aria-pressed") !== "true"; $$("#lg button").forEach(o => o.setAttribute("aria-pressed", on && o === b)); plane.classList.toggle("iso", on); $$(".plane .on").forEach(o => o.classList.remove("on")); if (on) $$(".plane .q" + b.value).forEach(o => o.classList.add("on")); };
  Promise.all($$("#latent img").map(i => i.decode())).then(() => choose(now)).catch(() => {});
}
// Sections open from links; all open in print.
const openHash = () => { const d = location.hash ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null; const t = d?.matches("details") ? d : d?.querySelector(":scope > details.plain"); if (t) { t.open = true; d.scrollIntoView(); } };
addEventListener("hashchange", openHash); openHash();
document.addEventListener("click", e => { const a = e.target.closest('a[href^="#"]'); if (a && a.getAttribute("href") === location.hash) openHash(); });
$("#all").onclick = e => { const open = e.target.textContent === "Open all"; $$(".v").forEach(d => { d.open = open; }); e.target.textContent = open ? "Close all" : "Open all"; };
$("#filter")?.addEventListener("input", e => { const wanted = e.target.value.toLowerCase(); $$(".v").forEach(d => d.toggleAttribute("hidden", !$("summary", d).textContent.toLowerCase().includes(wanted))); });
let shut = []; addEventListener("beforeprint", () => { shut = $$("details:not([open])"); shut.forEach(d => { d.open = true; }); }); addEventListener("afterprint", () => shut.forEach(d => { d.open = false; }));
setTheme(root.dataset.theme || "auto");

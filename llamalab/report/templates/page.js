(() => {
  const $ = (selector, within = document) => within.querySelector(selector), $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
  const json = id => JSON.parse($("#" + id).textContent), data = json("set"), csvs = json("tables");
  const make = (tag, attributes = {}, text = "") => { const one = Object.assign(document.createElement(tag), attributes); one.textContent = text; return one; };
  $$(".scripted").forEach(one => { one.hidden = false; });

  // Colours, remembered.
  const kept = (() => { try { return localStorage; } catch { return null; } })();
  const wished = kept && kept.getItem("llamalab-theme");
  if (wished && $("#" + CSS.escape(wished))) $("#" + CSS.escape(wished)).checked = true;
  $$("input[name=theme]").forEach(one => one.addEventListener("change", () => kept && kept.setItem("llamalab-theme", one.id)));

  // The section in view, in the navigation.
  const links = new Map($$("nav a").map(link => [link.hash.slice(1), link]));
  const mark = () => {
    const line = innerHeight / 3, sections = $$("main > section").filter(one => links.has(one.id) && one.offsetParent);
    const now = sections.filter(one => one.getBoundingClientRect().top <= line).pop() || sections[0];
    links.forEach((link, id) => id === now.id ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current"));
  };
  addEventListener("scroll", mark, { passive: true });
  addEventListener("resize", mark);
  mark();
  const unfold = () => { for (let one = location.hash && document.getElementById(location.hash.slice(1)); one; one = one.parentElement) if (one.tagName === "DETAILS") one.open = true; };
  addEventListener("hashchange", unfold);
  unfold();

  // Tables: sorted by a heading, filtered by words, copied.
  const copy = (button, text) => {
    const done = () => { const was = button.textContent; button.textContent = "copied"; setTimeout(() => { button.textContent = was; }, 1200); };
    const area = make("textarea"); area.value = text; document.body.append(area); area.select();
    const worked = document.execCommand("copy"); area.remove();
    if (worked) done(); else if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, () => {});
  };
  const cells = row => [...row.cells].filter(cell => cell.offsetParent !== null || !cell.classList.contains("d")).map(cell => cell.dataset.text || cell.textContent.trim());
  const quoted = cell => /[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
  const amount = text => {
    const found = /^([+−-]?[\d.,]+)\s*(.*)$/.exec(text);
    if (!found) return null;
    const scale = { n: 1e-9, "µ": 1e-6, m: 1e-3, k: 1e3, K: 1024, M: /^MiB/.test(found[2]) ? 1024 ** 2 : 1e6, G: /^GiB/.test(found[2]) ? 1024 ** 3 : 1e9, T: 1e12, P: 1e15 };
    const unit = found[2], prefix = /^[nµmkKMGTP](?=[A-Za-z])/.test(unit) || /^[kMGTP]$/.test(unit) ? scale[unit[0]] : 1;
    return Number(found[1].replaceAll(",", "").replace("−", "-")) * prefix;
  };
  for (const box of $$(".data")) {
    const table = $("table", box), body = $("tbody", table), name = box.dataset.table, all = [...body.rows];
    const tools = make("p", { className: "tools" });
    if (all.length > 8) {
      const filter = make("input", { type: "search", placeholder: "filter", ariaLabel: `Filter: ${table.caption.textContent}` });
      filter.addEventListener("input", () => {
        const words = filter.value.toLowerCase().split(/\s+/);
        all.forEach(row => { row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word)); });
      });
      tools.append(filter);
    }
    const shown = () => [table.tHead.rows[0], ...[...body.rows].filter(row => !row.hidden)].map(cells);
    const csv = make("button", { type: "button" }, "Copy CSV"), markdown = make("button", { type: "button" }, "Copy Markdown");
    csv.addEventListener("click", () => copy(csv, csvs[name] || shown().map(row => row.map(quoted).join(",")).join("\n") + "\n"));
    markdown.addEventListener("click", () => {
      const [head, ...rows] = shown().map(row => `| ${row.map(cell => cell.replaceAll("|", "\\|")).join(" | ")} |`);
      copy(markdown, [head, head.replace(/[^|]+/g, " --- "), ...rows].join("\n") + "\n");
    });
    tools.append(csv, markdown);
    box.insertBefore(tools, $(".scroll", box));
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const title = head.textContent, button = make("button", { type: "button" }, title);
      head.dataset.text = title;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        [...table.tHead.rows[0].cells].forEach(one => one.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = row => { const text = row.cells[column].textContent; return amount(text) ?? (text === "–" ? null : text); };
        const sorted = [...all].sort((one, other) => {
          const [x, y] = [key(one), key(other)];
          if (x === null || y === null) return (x === null) - (y === null);
          return (up ? 1 : -1) * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
        });
        body.append(...sorted);
      });
    });
  }
  // The files that the page holds.
  $$("[data-file]").forEach(one => {
    const name = one.dataset.file, text = name === "record.json" ? $("#record").textContent : csvs[name.replace(/\.csv$/, "")];
    const link = make("a", { href: "#", download: name }, name);
    link.addEventListener("click", () => { link.href = URL.createObjectURL(new Blob([text])); });
    one.replaceChildren(link);
  });

  // Tips of marks, for fingers and keys too: arrows walk through the marks of a plot in focus.
  const tip = $("#tip"), marks = plot => $$("svg g > title", plot).map(title => title.parentNode);
  const titleOf = group => { const title = group && $(":scope > title", group); return title ? title.textContent : ""; };
  const show = group => {
    $$(".pointed").forEach(one => one.classList.remove("pointed"));
    tip.hidden = !titleOf(group);
    if (tip.hidden) return;
    group.classList.add("pointed");
    tip.textContent = titleOf(group);
    const box = group.getBoundingClientRect(), width = tip.offsetWidth;
    tip.style.left = Math.max(4, Math.min(innerWidth - width - 4, box.left + box.width / 2 - width / 2)) + "px";
    tip.style.top = Math.max(4, box.top - tip.offsetHeight - 8) + "px";
  };
  for (const plot of $$(".plot")) {
    let at = -1;
    plot.addEventListener("click", event => { const group = event.target.closest("svg g:has(> title)"); show(group); if (group) at = marks(plot).indexOf(group); });
    plot.addEventListener("keydown", event => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key], all = marks(plot);
      if (event.key === "Escape") show(null);
      if (event.key === "Enter" && all[at]) all[at].dispatchEvent(new MouseEvent("click", { bubbles: true }));
      if (!step || !all.length) return;
      event.preventDefault();
      at = (at + step + all.length) % all.length;
      show(all[at]);
    });
    plot.addEventListener("blur", () => show(null));
  }
  addEventListener("scroll", () => show(null), { passive: true });

  // Flame views: a click on a frame makes it as wide as the view.
  for (const frames of $$(".flame .frames")) {
    const all = $$("g", frames).map(group => { const box = $("rect", group); return { group, box, text: $("text", group) || group.appendChild(document.createElementNS(box.namespaceURI, "text")), name: titleOf(group).split(": ")[0], y: +box.getAttribute("y"), x: +box.getAttribute("x"), width: +box.getAttribute("width") }; });
    const zoom = chosen => all.forEach(one => {
      const scale = 360 / chosen.width, left = Math.max(0, (one.x - chosen.x) * scale), right = Math.min(360, (one.x + one.width - chosen.x) * scale), width = right - left;
      one.group.style.display = width > 0.5 ? "" : "none";
      one.box.setAttribute("x", left);
      one.box.setAttribute("width", Math.max(0, width));
      one.text.setAttribute("x", left + 3);
      one.text.setAttribute("y", one.y + 11.5);
      one.text.textContent = width > 4.9 * one.name.length + 6 ? one.name : "";
    });
    all.forEach(one => one.group.addEventListener("click", () => zoom(one)));
  }

  // Settings: memory and time with the constants of the record.
  const form = $(".settings");
  if (!form || !data) return;
  const field = name => $(`[name=${name}]`, form);
  const powers = ["prompt", "generate", "batch"], counts = value => Math.round(2 ** value);
  const si = (value, unit) => { for (const [prefix, scale] of [["", 1], ["m", 1e-3], ["µ", 1e-6], ["n", 1e-9]]) if (value >= scale) return `${(value / scale).toFixed(2)} ${prefix}${unit}`; return `0 ${unit}`; };
  const bytes = value => { for (const [unit, scale] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) if (value >= scale) return `${(value / scale).toFixed(2)} ${unit}`; return `${value} B`; };
  const reset = () => {
    for (const name of powers) { field(name).value = Math.log2(data.start[name]); field(name).dataset.start = field(name).value; }
    for (const name of ["weight", "kv", "kv_heads", "attention", "place"]) field(name).value = data.start[name];
    field("fused").value = "";
  };
  const setting = () => {
    const set = { kv_heads: +field("kv_heads").value, weight: field("weight").value, kv: field("kv").value, attention: field("attention").value, fused: !!field("fused").value };
    for (const name of powers) set[name] = field(name).value === field(name).dataset.start ? data.start[name] : counts(field(name).value);
    return set;
  };
  const tell = (name, text) => { $(`[data-result=${name}]`, form).textContent = text; };
  const update = () => {
    const set = setting(), place = data.places[+field("place").value], narrow = { ...set };
    for (const name of ["weight", "kv"]) if (set[name] === data.dtype) narrow[name] = place.dtype;
    const held = Model.memory(data, place, narrow), time = Model.times(data, place, narrow);
    const total = held.weight_bytes + held.kv_bytes + held.activation_bytes, fits = total <= place.memory_bytes;
    for (const name of powers) field(name).previousElementSibling.textContent = set[name].toLocaleString("en");
    for (const name of ["weight_bytes", "kv_bytes", "activation_bytes"]) tell(name, bytes(held[name]));
    tell("total_bytes", `${bytes(total)} of ${bytes(place.memory_bytes)}: ${fits ? "fits" : "does not fit"}`);
    for (const name of ["prefill_s", "decode_s", "total_s"]) tell(name, time && time[name] !== null ? si(time[name], "s") : "–");
    tell("tokens_per_s", time ? time.tokens_per_s.toPrecision(4) : "–");
    const spread = time && place.spread ? ` About 9 of 10 runs should take ${si(time.total_s * (1 - place.spread), "s")} to ${si(time.total_s * (1 + place.spread), "s")}.` : "";
    tell("basis", `Basis: ${place.basis}, in ${place.dtype}.${spread}${time ? "" : " A roof or constant that it needs is not known."}${fits ? "" : " The time is that of a device with enough memory."}`);
    $$(".held i", form).forEach((one, at) => { one.style.width = 100 * [held.weight_bytes, held.kv_bytes, held.activation_bytes][at] / Math.max(total, place.memory_bytes) + "%"; });
    $(".held", form).classList.toggle("over", !fits);
  };
  form.addEventListener("input", update);
  $("button", form).addEventListener("click", () => { reset(); update(); });
  reset();
  update();
})();

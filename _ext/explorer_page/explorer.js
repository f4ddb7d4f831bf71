/* The explorer: draws the runs of the map that the reader chooses. Data: _ext/explorer.py. */
(function () {
  "use strict";
  const root = document.getElementById("explorer");
  if (!root) return;
  const base = document.getElementById("explorer-script").src.replace(/[^/]*$/, "");
  const settings = {}; // "1000-20" to its data, as they are loaded
  const METRICS = { accuracy: "accuracy", log_loss: "log-loss" };
  const ENDS = { last: "the last epoch", best: "each run's best epoch" };
  const NAMES = ["n_train", "label_noise", "technique", "score", "end", "pairs", "strength"];
  const START = { n_train: "1000", label_noise: "20", technique: "dropout", score: "accuracy", end: "last", pairs: "10", strength: null };
  const charts = {};
  let index = null;
  let state = {};
  let target = null; // what is to be scrolled to once it is drawn

  window.explorerIndex = function (data) {
    index = data;
    state = fromAddress();
    show();
  };
  window.explorerData = function (name, data) {
    settings[name] = data;
    show();
  };

  const at = (id) => document.getElementById("explorer-" + id);
  const say = (text) => { at("notice").textContent = text; };
  const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
  const thousands = (n) => Number(n).toLocaleString("en");
  const short = (n) => Number(n).toLocaleString("en", { maximumSignificantDigits: 3 });
  const view = () => state.score + " " + state.end;
  const setting = () => state.n_train + "-" + state.label_noise;

  function load(file) {
    const script = document.createElement("script");
    script.src = base + file + ".js";
    script.onerror = () => say("The data of this view could not be loaded.");
    document.head.append(script);
  }

  /* Whether the address names a place on the page, as "Skip to main content" does, and no view. */
  function isPlace() {
    const name = location.hash.slice(1);
    return name === "" || name === "top" || document.getElementById(name) !== null;
  }

  /* The value that is meant: the same number, or the same name, in which a "+" may stand for a space. */
  function find(values, text) {
    const plain = (name) => name.replace(/[+\s]+/g, " ");
    return values.find((value) =>
      plain(value) === plain(text) || (text.trim() !== "" && Number(value) === Number(text)));
  }

  /* The view in the address, or the default where the address names none that exists. */
  function fromAddress() {
    if (isPlace()) return Object.assign({}, START);
    const pairs = [...new URLSearchParams(location.hash.slice(1))];
    const keys = pairs.map(([key]) => key);
    const wanted = Object.assign({}, START, Object.fromEntries(pairs));
    const known = index.settings.find((name) => {
      const [n, noise] = name.split("-");
      return find([n], wanted.n_train) && find([noise], wanted.label_noise);
    });
    wanted.technique = find(Object.keys(index.colours), wanted.technique);
    wanted.score = find(Object.keys(METRICS), wanted.score);
    wanted.end = find(Object.keys(ENDS), wanted.end);
    wanted.pairs = find("1 2 3 4 5 6 7 8 9 10".split(" "), wanted.pairs);
    const unknown = keys.some((key) => !NAMES.includes(key)) || new Set(keys).size < keys.length;
    if (known && !unknown && wanted.technique && wanted.score && wanted.end && wanted.pairs) {
      [wanted.n_train, wanted.label_noise] = known.split("-");
      return wanted;
    }
    say("The address names no view that exists; this is the one to start from.");
    return Object.assign({}, START);
  }

  /* Where in a configuration, learning rate and strength, an arm's knob stands. */
  const knobOf = (arm) => (arm.knob === "learning rate" ? 0 : 1);

  /* What the search tried, by strength, or by learning rate for an arm that has no strength. */
  function tried(arm) {
    const column = 2 + Object.keys(index.map).indexOf(view());
    const points = arm.tried.map((row) => ({ x: row[knobOf(arm)], y: row[column], rate: row[0] }));
    return points.sort((a, b) => a.x - b.x);
  }

  /* Give the strength a value that was tried: the chosen one where none is named. */
  function complete(arm) {
    const strengths = [...new Set(tried(arm).map((point) => String(point.x)))];
    const usual = arm.chosen[view()].split(" ")[knobOf(arm)];
    const named = state.strength === null ? usual : state.strength;
    const known = find(strengths, named);
    if (!known) say("The address names no strength that was tried; this is the chosen one.");
    state.strength = known || find(strengths, usual);
    return strengths;
  }

  /* The two that are compared: names, configurations and runs. */
  function contestants(data) {
    const arm = data.arms[state.technique];
    const plain = data.arms.none;
    const isPlain = state.technique === "none";
    const side = (entry, label, name) => {
      const [rate, strength] = name.split(" ");
      const what = entry.knob === "learning rate" ? "" : entry.knob + " " + short(strength) + ", ";
      return { label, setting: what + "learning rate " + short(rate), runs: entry.runs[name] };
    };
    return [
      side(arm, isPlain ? "tuned plain network" : state.technique, arm.chosen[view()]),
      isPlain ? side(plain, "plain network as Keras starts it", index.usual)
        : side(plain, "tuned plain network", plain.chosen[view()]),
    ];
  }

  function show() {
    const data = settings[setting()];
    if (!data) return load(setting());
    const arm = data.arms[state.technique];
    const strengths = complete(arm);
    const unique = (part) => [...new Set(index.settings.map((n) => n.split("-")[part]))].sort((a, b) => a - b);
    fill("n_train", unique(0), thousands);
    fill("label_noise", unique(1), (n) => n + " %");
    fill("technique", Object.keys(data.arms), (n) => (n === "none" ? "none (learning rate)" : n));
    fill("score", Object.keys(METRICS), (n) => METRICS[n]);
    fill("end", Object.keys(ENDS), (n) => "at " + ENDS[n]);
    const address = NAMES.map((key) => key + "=" + encodeURIComponent(state[key])).join("&");
    history.replaceState(null, "", "#" + address);
    const sides = contestants(data);
    const compared = differences(sides);
    map();
    sentence(sides, compared);
    table(sides);
    slider(arm, strengths, data);
    if (state.pairs === "10" && document.activeElement === at("more")) at("one").focus();
    at("more").hidden = state.pairs === "10";
    root.hidden = false; // before drawing: what is hidden has no width
    at("fallback").hidden = true;
    drawCurves(sides, data.epochs);
    drawPairs(compared);
    drawSearch(arm, data);
    const place = target && at(target);
    if (place) requestAnimationFrame(() => place.scrollIntoView({ block: "end" })); // the charts have their size
    target = null;
  }

  function fill(key, values, label) {
    at(key).replaceChildren(...values.map((value) => new Option(label(value), value)));
    at(key).value = state[key];
  }

  function number(value, sign, digits) {
    const percent = state.score === "accuracy";
    const text = (percent ? 100 * value : value).toFixed(digits === undefined ? (percent ? 2 : 3) : digits);
    const zero = Number(text) === 0;
    return (sign && value > 0 && !zero ? "+" : "") + (zero ? text.replace("-", "") : text.replace("-", "−"));
  }

  /* The end of an interval, with enough digits to tell it from zero. */
  function end(value) {
    const usual = state.score === "accuracy" ? 2 : 3;
    const texts = [usual, usual + 1, usual + 2].map((digits) => number(value, true, digits));
    return texts.find((text) => /[1-9]/.test(text)) || texts[0];
  }

  /* A power of ten, as an axis has room for it. */
  const power = (value) => "10" + [...String(Math.round(Math.log10(value)))].map((c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[c] || "⁻").join("");

  function element(kind, text, attributes) {
    const made = Object.assign(document.createElement(kind), { textContent: text });
    for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
    return made;
  }

  function row(...cells) {
    const made = document.createElement("tr");
    made.append(...cells);
    return made;
  }

  function map() {
    const percent = state.score === "accuracy";
    const sizes = [...new Set(index.settings.map((name) => name.split("-")[0]))].sort((a, b) => a - b);
    const columns = sizes.flatMap((n) => index.settings.filter((name) => name.startsWith(n + "-"))
      .sort((a, b) => a.split("-")[1] - b.split("-")[1]));
    const above = sizes.map((n) => element("th", thousands(n) + " images",
      { colspan: columns.filter((name) => name.startsWith(n + "-")).length, scope: "colgroup" }));
    const heads = columns.map((name) => element("th", name.split("-")[1] + " %", { scope: "col" }));
    at("map").querySelector("thead").replaceChildren(
      row(element("td", ""), ...above), row(element("td", "labels wrong"), ...heads));
    const rows = Object.entries(index.map[view()]).map(([technique, cells]) =>
      row(element("th", technique, { scope: "row" }), ...columns.map((name) => tile(technique, name, cells[name]))));
    const held = at("map").contains(document.activeElement);
    at("map").querySelector("tbody").replaceChildren(...rows);
    if (held) at("map").querySelector('[aria-pressed="true"]')?.focus({ preventScroll: true });
    at("legend").textContent = "Test " + METRICS[state.score] + " at " + ENDS[state.end] + ": difference from the tuned plain network" +
      (percent ? ", in percentage points." : "; less is better.") + " Coloured where it is clear, orange for better and purple for worse.";
  }

  function tile(technique, name, [value, clear, fill, ink]) {
    const text = number(value, true, state.score === "accuracy" ? 1 : 2);
    const [n, noise] = name.split("-");
    const button = element("button", text, {
      type: "button", "aria-pressed": technique === state.technique && name === setting(),
      "aria-label": technique + ", " + thousands(n) + " images, " + noise + " % wrong: " + text + (clear ? "" : ", not clear"),
      style: "background:" + fill + ";color:" + ink,
    });
    button.addEventListener("click", () => {
      target = "sentence";
      choose({ technique, n_train: n, label_noise: noise, strength: null, pairs: "10" });
    });
    const cell = document.createElement("td");
    cell.append(button);
    return cell;
  }

  /* Differences of the pairs that are drawn, with their mean and interval after each. */
  function differences([ours, theirs]) {
    const all = ours.runs.test[view()].map((value, k) => value - theirs.runs.test[view()][k]);
    const after = all.map((_, k) => {
      const seen = all.slice(0, k + 1);
      const middle = mean(seen);
      const spread = Math.sqrt(seen.reduce((sum, d) => sum + (d - middle) ** 2, 0) / k); // NaN for one
      const half = k === 0 ? null : index.t[k - 1] * spread / Math.sqrt(k + 1);
      return { mean: middle, low: k ? middle - half : null, high: k ? middle + half : null };
    });
    return { all, after };
  }

  function sentence([ours, theirs], { after }) {
    const pairs = Number(state.pairs);
    const { mean: middle, low, high } = after[pairs - 1];
    const unit = state.score === "accuracy" ? " points" : "";
    const epoch = ({ runs }) => Math.round(mean(runs.at[view()].slice(0, pairs)));
    const when = state.end === "last" ? "" : " (on average epoch " + epoch(ours) + " and epoch " + epoch(theirs) + ")";
    const measured = "the test " + METRICS[state.score] + " at " + ENDS[state.end] + when;
    const start = thousands(state.n_train) + " training images, " + state.label_noise + " % of their labels wrong: " +
      ours.label + " (" + ours.setting + ") against the " + theirs.label + " (" + theirs.setting + "). ";
    const size = number(Math.abs(middle)) + unit + (middle > 0 ? " higher" : " lower");
    if (pairs === 1) {
      at("sentence").textContent = start + "In this one pair " + measured + " is " + size + "; one pair has no interval.";
      return;
    }
    const interval = "; 95 % interval " + end(low) + " to " + end(high) + unit + ".";
    const cell = state.technique === "none" ? null : index.map[view()][state.technique][setting()];
    const doubt = pairs === 10 && cell && !cell[1] ? " Among the comparisons that were planned, that is not clear." : "";
    at("sentence").textContent = start + "Over " + pairs + " pairs " + (low > 0 || high < 0
      ? measured + " is " + size + interval + doubt
      : "there is no clear difference in " + measured + ": " + number(middle, true) + unit + interval);
  }

  function table(sides) {
    const rows = sides.map(({ label, runs }) => {
      const list = runs.test[view()].slice(0, state.pairs);
      const cells = [mean(list), Math.min(...list), Math.max(...list)].map((value) => element("td", number(value)));
      return row(element("th", label, { scope: "row" }), ...cells);
    });
    at("unit").textContent = "Test " + METRICS[state.score] + (state.score === "accuracy" ? ", %" : "") +
      ", pairs drawn: " + state.pairs;
    at("table").querySelector("tbody").replaceChildren(...rows);
  }

  function slider(arm, strengths, data) {
    const points = tried(arm).filter((point) => String(point.x) === state.strength);
    const better = (list) => (state.score === "accuracy" ? Math.max(...list) : Math.min(...list));
    const rival = better(tried(data.arms.none).map((point) => point.y));
    const unit = state.score === "accuracy" ? " %" : "";
    at("knob").textContent = arm.knob === "learning rate" ? "Learning rate" : "Strength (" + arm.knob + ")";
    at("strength").max = strengths.length - 1;
    at("strength").value = strengths.indexOf(state.strength);
    at("strength").setAttribute("aria-valuetext", arm.knob + " " + short(state.strength));
    const seen = points.sort((a, b) => a.rate - b.rate).map((point) =>
      number(point.y) + unit + (points.length > 1 ? " at learning rate " + short(point.rate) : ""));
    at("tried").textContent = "With " + arm.knob + " " + short(state.strength) + " the validation " + METRICS[state.score] +
      ", averaged over two runs, was " + seen.join(" and ") + "; the best of the plain network's learning rates reached " + number(rival) + unit + ".";
  }

  function plot(id, data, series, axes, scales) {
    const holder = at(id);
    const width = holder.clientWidth;
    if (charts[id]) charts[id].destroy();
    charts[id] = new uPlot({
      width, height: Math.min(360, Math.max(250, width * 0.55)), legend: { show: false },
      cursor: { show: false }, scales, series: [{}, ...series],
      axes: axes.map((axis, i) => Object.assign({ stroke: "#222222", size: i ? 60 : 50 }, axis)),
    }, data, holder);
  }

  /* The numbers along an axis, with as many digits as their distance asks for. */
  const values = (_, list, _axis, _space, distance) => list.map((value) =>
    number(value, false, Math.max(0, Math.ceil(-Math.log10(distance * (state.score === "accuracy" ? 100 : 1)) - 1e-9))));

  function drawCurves(sides, epochs) {
    const pairs = Number(state.pairs);
    const colours = [index.colours[state.technique], index.colours.none];
    if (state.technique === "none") colours[1] = "#7A7A7A";
    const lines = [epochs], series = [], ends = [];
    // What lies below the curves' first fifth is cut off, for the rest to be told apart.
    const late = epochs.findIndex((epoch) => epoch > epochs.at(-1) / 5);
    const seen = sides.flatMap(({ runs }) => [...runs.curves[state.score], ...runs.curves["val_" + state.score]]);
    const floor = state.score === "accuracy" ? Math.min(...seen.flatMap((run) => run.slice(late))) : 0;
    sides.forEach(({ runs }, side) => {
      const own = (name) => runs.curves[name].slice(0, pairs);
      const average = (rows) => epochs.map((_, i) => mean(rows.map((run) => run[i])));
      const line = (width, alpha, dash) => ({ stroke: colours[side] + alpha, width, dash, points: { show: false } });
      for (const run of own("val_" + state.score)) { lines.push(run); series.push(line(1, "44")); }
      lines.push(average(own("val_" + state.score)), average(own(state.score)));
      series.push(line(3, ""), line(2, "", [6, 4]));
      ends.push(number(lines[lines.length - 2].at(-1)));
    });
    plot("chart", lines, series, [{ label: "epoch" }, { label: METRICS[state.score] + (state.score === "accuracy" ? ", %" : ""), values }],
      { x: { time: false }, y: { range: (_, low, high) => [Math.max(low, floor), high] } });
    at("key").replaceChildren(...sides.map(({ label }, side) => element("span", "━━ " + label, { style: "color:" + colours[side] })),
      element("span", "solid: validation, thin lines a pair each; dashed: training, mean"));
    at("chart").setAttribute("aria-label", "Curves of " + METRICS[state.score] + " over " + epochs.at(-1) +
      " epochs. Mean on validation images at the end: " + sides.map(({ label }, i) => label + " " + ends[i]).join(", ") + ".");
  }

  function drawPairs({ all, after }) {
    const drawn = (list) => list.map((value, k) => (k < Number(state.pairs) ? value : null));
    const colour = index.colours[state.technique];
    const x = all.map((_, k) => k + 1);
    const reach = Math.max(...all.map(Math.abs), ...after.slice(3).flatMap((a) => [-a.low, a.high])) * 1.1;
    const dots = { stroke: colour, paths: () => null, points: { show: true, size: 8, fill: colour } };
    const line = (width, dash) => ({ stroke: "#222222", width, dash, points: { show: false } });
    plot("pairs", [x, drawn(all), ...["mean", "low", "high"].map((end) => drawn(after.map((a) => a[end]))), x.map(() => 0)],
      [dots, line(3), line(1.5, [4, 3]), line(1.5, [4, 3]), { stroke: "#999999", width: 1, points: { show: false } }],
      [{ label: "pairs drawn", incrs: [1], space: 15 }, { label: "difference" + (state.score === "accuracy" ? ", points" : ""), values }],
      { x: { time: false, range: [0.5, 10.5] }, y: { range: [-reach, reach] } });
    const away = after.map((a) => (a.low > 0) - (a.high < 0)); // -1 and 1 beside zero, 0 across it
    const last = away.at(-1);
    const from = 1 + all.length - [...away].reverse().concat(0).findIndex((side) => side !== last || side === 0);
    at("enough").textContent = state.pairs !== "10" ? "" : last === 0
      ? "Here ten pairs are not enough." : "Here the interval is on one side of zero from pair " + from + " on.";
    const texts = drawn(all).filter((value) => value !== null).map((value) => number(value, true));
    at("pairs").setAttribute("aria-label", "Differences of the pairs drawn: " + texts.join(", ") + ". The line is their mean, dashed lines are its 95 % interval.");
  }

  function drawSearch(arm, data) {
    const points = tried(arm);
    const colour = index.colours[state.technique];
    const chosenAt = arm.chosen[view()].split(" ")[knobOf(arm)];
    const better = state.score === "accuracy" ? Math.max : Math.min;
    const best = better(...tried(data.arms.none).map((point) => point.y));
    const top = (x) => better(...points.filter((point) => point.x === x).map((point) => point.y));
    const mark = (size, fill, stroke) => ({ stroke, paths: () => null, points: { show: true, size, fill, width: 2 } });
    const only = (test) => points.map((point) => (test(point) ? point.y : null));
    const wide = points.at(-1).x > 100 * points[0].x;
    const powers = (_, splits) => splits.map((value) => (Math.abs(Math.log10(value) % 1) < 1e-9 || !wide ? value : null));
    // uPlot wants one value of y for each x; the second rate of a strength stands just beside it.
    const x = points.map((point, i) => point.x * (i && points[i - 1].x === point.x ? 1.0001 : 1));
    const line = { stroke: colour, width: 1, spanGaps: true, points: { show: false } };
    plot("search", [x, only((point) => point.y === top(point.x)), points.map((point) => point.y),
      only((point) => String(point.x) === state.strength), x.map(() => best)],
      [line, mark(7, "#FFFFFF", colour), mark(11, colour, colour), { stroke: index.colours.none, width: 1.5, dash: [4, 3], points: { show: false } }],
      [{ label: arm.knob, filter: powers, grid: { filter: powers }, ticks: { filter: powers },
        values: (_, list) => list.map((value) => (value === null ? "" : wide ? power(value) : short(value))) },
        { label: "validation " + METRICS[state.score] + (state.score === "accuracy" ? ", %" : ""), values }],
      { x: { time: false, distr: wide ? 3 : 1 } });
    at("search").setAttribute("aria-label", "A dot for each of 18 configurations, at its strength; the chosen one has " + arm.knob + " " + short(chosenAt) +
      ". The dashed line is the plain network's best, " + number(best) + ".");
  }

  function choose(changes) {
    say("");
    Object.assign(state, changes);
    show();
  }

  for (const key of ["n_train", "label_noise", "technique", "score", "end"]) {
    at(key).addEventListener("change", () => choose({ [key]: at(key).value, strength: null }));
  }
  at("strength").addEventListener("input", () => {
    const arm = settings[setting()].arms[state.technique];
    const strengths = [...new Set(tried(arm).map((point) => String(point.x)))];
    choose({ strength: strengths[at("strength").value] });
  });
  at("one").addEventListener("click", () => choose({ pairs: "1" }));
  at("more").addEventListener("click", () => choose({ pairs: String(Number(state.pairs) + 1) }));
  window.addEventListener("hashchange", () => {
    if (isPlace()) return state.n_train && show(); // the view stays; the page has scrolled there
    say("");
    state = fromAddress();
    target = state.strength !== null ? "search" : state.pairs !== "10" ? "pairs" : "sentence";
    show();
  });
  window.addEventListener("resize", () => { if (charts.chart) show(); });
  load("index");
})();

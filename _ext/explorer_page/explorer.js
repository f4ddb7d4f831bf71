/* The explorer: draws the runs of `results/` that the reader chooses. Data: _ext/explorer.py. */
(function () {
  "use strict";
  const root = document.getElementById("explorer");
  if (!root) return;
  const base = document.getElementById("explorer-script").src.replace(/[^/]*$/, "");
  const settings = {}; // "1000-20" to its data, as they are loaded
  const controls = {};
  const METRICS = { accuracy: "accuracy", log_loss: "log-loss" };
  const NAMES = ["n_train", "label_noise", "technique", "strength", "score"];
  let names = [];
  let colours = {};
  let chart = null;
  let state = {};

  window.explorerIndex = function (index) {
    names = index.settings;
    colours = index.colours;
    state = fromAddress();
    show();
  };
  window.explorerData = function (name, data) {
    settings[name] = data;
    show();
  };

  function load(file) {
    const script = document.createElement("script");
    script.src = base + file + ".js";
    script.onerror = () => say("The data of this view could not be loaded.");
    document.head.append(script);
  }

  function say(text) {
    document.getElementById("explorer-notice").textContent = text;
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
    const fallback = { n_train: "1000", label_noise: "20", technique: "dropout", strength: null, score: "accuracy" };
    if (!names.includes("1000-20")) [fallback.n_train, fallback.label_noise] = names[0].split("-");
    if (isPlace()) return fallback;
    const pairs = [...new URLSearchParams(location.hash.slice(1))];
    const keys = pairs.map(([key]) => key);
    const view = Object.assign({}, fallback, Object.fromEntries(pairs));
    const setting = names.find((name) => {
      const [n, noise] = name.split("-");
      return find([n], view.n_train) && find([noise], view.label_noise);
    });
    view.score = find(Object.keys(METRICS), view.score);
    if (setting && view.score && new Set(keys).size === keys.length && keys.every((key) => NAMES.includes(key))) {
      [view.n_train, view.label_noise] = setting.split("-");
      return view;
    }
    say("The address names no view that exists; this is the one to start from.");
    return fallback;
  }

  /* Replace names that do not exist, and choose a strength where none is named (null). */
  function complete(data) {
    const name = find(Object.keys(data.techniques), state.technique);
    if (!name) {
      say("The address names no technique that exists; this is the one to start from.");
      state.strength = null;
    }
    state.technique = name || "dropout";
    const strengths = Object.keys(data.techniques[state.technique].cells);
    const usual = state.technique === "none"
      ? data.baseline[state.score].strength : strengths[Math.floor(strengths.length / 2)];
    const wanted = state.strength === null ? usual : find(strengths, state.strength);
    if (!wanted) say("The address names no strength that exists; this is the usual one.");
    state.strength = wanted || usual;
  }

  function show() {
    const name = state.n_train + "-" + state.label_noise;
    const data = settings[name];
    if (!data) return load(name);
    complete(data);
    const technique = data.techniques[state.technique];
    fill("n_train", unique(names.map((n) => n.split("-")[0])), (n) => Number(n).toLocaleString("en"));
    fill("label_noise", unique(names.map((n) => n.split("-")[1])), (n) => n + " %");
    fill("technique", Object.keys(data.techniques), (n) => (n === "none" ? "none (learning rate)" : n));
    fill("strength", Object.keys(technique.cells), (n) => technique.knob + " " + n);
    fill("score", Object.keys(METRICS), (n) => METRICS[n]);
    keepAddress();
    const cell = technique.cells[state.strength];
    sentence(data, technique, cell);
    table(data, cell);
    root.hidden = false; // before drawing: what is hidden has no width
    document.getElementById("explorer-fallback").hidden = true;
    draw(cell);
  }

  function keepAddress() {
    const address = NAMES.map((key) => key + "=" + encodeURIComponent(state[key])).join("&");
    history.replaceState(null, "", "#" + address);
  }

  function unique(list) {
    return [...new Set(list)].sort((a, b) => a - b);
  }

  function fill(key, values, label) {
    const select = controls[key];
    select.replaceChildren(...values.map((value) => new Option(label(value), value)));
    select.value = state[key];
  }

  function number(value, metric, sign) {
    const text = metric === "accuracy" ? (100 * value).toFixed(2) : value.toFixed(3);
    return (sign && value > 0 ? "+" : "") + text.replace("-", "−");
  }

  function sentence(data, technique, cell) {
    const metric = state.score;
    const [mean, low, high] = cell.difference[metric];
    const unit = metric === "accuracy" ? " points" : "";
    const clear = low > 0 || high < 0;
    const setting = Number(state.n_train).toLocaleString("en") + " training images, " + state.label_noise + " % of their labels wrong";
    const what = state.technique === "none" ? "training without a technique" : state.technique;
    const verdict = clear
      ? (mean > 0 ? "raised" : "lowered") + " the test " + METRICS[metric] + " by " + number(Math.abs(mean), metric, false) + unit
      : "made no clear difference to the test " + METRICS[metric] + " (" + number(mean, metric, true) + unit + ")";
    const isBaseline = state.technique === "none" && state.strength === data.baseline[metric].strength;
    document.getElementById("explorer-sentence").textContent = isBaseline
      ? "With " + setting + ", this is the tuned baseline itself: learning rate " + state.strength + "."
      : "With " + setting + ", " + what + " (" + technique.knob + " " + state.strength + ") " + verdict +
        ", compared with the tuned baseline over the same " + data.seeds + " seeds; 95 % interval " +
        number(low, metric, true) + " to " + number(high, metric, true) + unit + ".";
  }

  function table(data, cell) {
    const metric = state.score;
    const mean = (list) => list.reduce((a, b) => a + b, 0) / list.length;
    const rows = [
      [state.technique === "none" ? "this learning rate" : state.technique, cell.test[metric]],
      ["tuned baseline", data.baseline[metric].test],
    ];
    const body = rows.map(([label, list]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = label;
      row.append(head);
      for (const value of [mean(list), Math.min(...list), Math.max(...list)]) {
        const data = document.createElement("td");
        data.textContent = number(value, metric, false);
        row.append(data);
      }
      return row;
    });
    document.getElementById("explorer-unit").textContent =
      "Test " + METRICS[metric] + (metric === "accuracy" ? ", %" : "") + ", over " + data.seeds + " seeds";
    document.querySelector("#explorer-table tbody").replaceChildren(...body);
  }

  function draw(cell) {
    const metric = state.score;
    const training = cell.curves[metric];
    const validation = cell.curves["val_" + metric];
    const epochs = Math.max(...training.map((run) => run.length));
    const x = Array.from({ length: epochs }, (_, i) => i + 1);
    const pad = (run) => x.map((_, i) => (i < run.length ? run[i] : null));
    const shortest = Math.min(...training.map((run) => run.length)); // with early stopping they differ
    const mean = (runs) => x.map((_, i) =>
      i < shortest ? runs.reduce((sum, run) => sum + run[i], 0) / runs.length : null);
    const colour = colours[state.technique];
    const thin = (dash) => ({ stroke: colour + "55", width: 1, dash, points: { show: false } });
    const thick = (label, dash) => ({ label, stroke: colour, width: 3, dash, points: { show: false } });
    const series = [{ label: "epoch" }]
      .concat(training.map(() => thin()), validation.map(() => thin([6, 4])))
      .concat([thick("training, mean"), thick("validation, mean", [6, 4])]);
    const holder = document.getElementById("explorer-chart");
    const options = {
      width: holder.clientWidth, height: Math.min(380, Math.max(260, holder.clientWidth * 0.55)),
      legend: { show: false }, cursor: { drag: { x: false, y: false } }, scales: { x: { time: false } }, series,
      axes: [
        { label: "epoch", stroke: "#222222", incrs: [1, 2, 5, 10] },
        { label: METRICS[metric], stroke: "#222222", size: 60 },
      ],
    };
    if (chart) chart.destroy();
    chart = new uPlot(options, [x, ...training.map(pad), ...validation.map(pad), mean(training), mean(validation)], holder);
    const last = (list) => number(list[shortest - 1], metric, false);
    holder.setAttribute("aria-label", "Curves of " + METRICS[metric] + " over " + epochs + " epochs, a thin line per seed. " +
      "Mean at epoch " + shortest + ": training " + last(mean(training)) + ", validation " + last(mean(validation)) +
      (metric === "accuracy" ? " percent." : "."));
  }

  for (const key of NAMES) {
    controls[key] = document.getElementById("explorer-" + key);
    controls[key].addEventListener("change", () => {
      say("");
      if (key === "technique") state.strength = null;
      state[key] = controls[key].value;
      show();
    });
  }
  window.addEventListener("hashchange", () => {
    if (isPlace()) return keepAddress(); // the view stays; the page has scrolled there
    say("");
    state = fromAddress();
    show();
  });
  window.addEventListener("resize", () => { if (chart) show(); });
  load("index");
})();

/* The laboratory: two arms of ten networks each train in the reader's browser. See _ext/laboratory.py. */
(function () {
"use strict";
const base = document.currentScript.src.replace(/[^/]*$/, "");
const TEMPLATE = `
  <p data-lab-notice role="status"></p>
  <div class="explorer-controls">
    <label>Technique <select name="technique"></select></label>
    <label><span></span> <input type="range" name="strength" min="0" step="1"></label>
    <label>Rival <select name="rival"></select></label>
    <label><span></span> <input type="range" name="rival_strength" min="0" step="1"></label>
    <label><span></span> <input type="range" name="images" min="0" step="1"></label>
    <label>Wrong labels <select name="noise"></select></label>
    <label>Your guess <select name="guess"><option value="">none</option><option value="better">technique better</option><option value="worse">technique worse</option><option value="level">no clear difference</option></select></label>
    <button type="button" data-lab-train>Train</button>
  </div>
  <p data-lab-progress role="status"></p>
  <div data-lab-result role="status"></div>
  <div data-lab-chart role="img" aria-label="Accuracy of twenty networks over the epochs, in two colours: test digits solid, training digits dashed"></div>
  <p class="explorer-key"><span aria-hidden="true">━━</span> test digits &nbsp; <span aria-hidden="true">╍╍</span> training digits, as they are labelled &nbsp; <span data-lab-key></span></p>
  <div data-lab-dots></div>
  <div data-lab-pad></div>`;

/* Build the laboratory in an element: at the view that it names, or at that of the page's address. */
window.laboratory = function (root) {
  const fixed = root.dataset.lab;
  root.innerHTML = TEMPLATE;
  const EPOCHS = 15;
  const PAIRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
  const T9 = 2.2622; // Student's t, 95 %, for ten pairs
  const TECHNIQUES = {
    none: { name: "plain", values: [0] },
    dropout: { name: "dropout", knob: "dropout rate", values: [0.1, 0.25, 0.5, 0.75, 0.9], usual: 0.25 },
    L2: { name: "L2", knob: "strength λ", values: [0.0001, 0.001, 0.01, 0.1], usual: 0.01 },
    L1: { name: "L1", knob: "strength λ", values: [0.00001, 0.0001, 0.001, 0.01], usual: 0.001 },
    augmentation: { name: "augmentation", knob: "largest shift", values: [0.04, 0.08, 0.16, 0.3], usual: 0.08 },
    "label smoothing": { name: "label smoothing", knob: "smoothed share", values: [0.1, 0.3, 0.6, 0.9], usual: 0.3 },
    "early stopping": { name: "early stopping", knob: "patience", values: [1, 2, 3, 5], usual: 3 },
  };
  const ARM = { dropout: "rate", L2: "l2", L1: "l1", augmentation: "shift", "label smoothing": "smoothing" };
  const IMAGES = [100, 200, 300, 500, 700, 1000];
  const NOISE = [0, 20, 40];
  const START = { technique: "dropout", strength: 0.25, rival: "none", rival_strength: 0, images: 500, noise: 20 };
  const control = (name) => root.querySelector(`[name=${name}]`);
  const part = (name) => root.querySelector(`[data-lab-${name}]`);
  let workers = [];
  let ready = 0; // of the workers, those that have trained and can be asked
  let asking = Promise.resolve(); // the last question, answered or not
  let digits = null;
  let chart = null;
  let curves = [];

  function say(text) {
    part("notice").textContent = text;
  }

  /* The state in the address; what it does not name, or names wrongly, is as at the start. */
  function fromAddress() {
    const text = fixed || location.hash.slice(1);
    if (!text.includes("=")) return { ...START };
    const given = Object.fromEntries(new URLSearchParams(text));
    const known = (name) => (Object.hasOwn(TECHNIQUES, name) ? name : null);
    const [technique, rival] = [known(given.technique), known(given.rival ?? "none")];
    const strength = technique && TECHNIQUES[technique].values.find((v) => v === Number(given.strength));
    const other = rival && TECHNIQUES[rival].values.find((v) => v === Number(given.rival_strength ?? 0));
    const images = IMAGES.find((n) => n === Number(given.images));
    const noise = NOISE.find((n) => n === Number(given.noise));
    const found = { technique, strength, rival, rival_strength: other, images, noise };
    if (Object.values(found).some((value) => value === null || value === undefined)) {
      say("The address names no experiment that exists; this is the one to start from.");
      return { ...START };
    }
    return found;
  }

  function state() {
    const number = (name) => Number(control(name).value);
    const side = (technique, strength) => {
      const name = control(technique).value;
      return [name, TECHNIQUES[name].values[number(strength)]];
    };
    const [technique, strength] = side("technique", "strength");
    const [rival, rival_strength] = side("rival", "rival_strength");
    return { technique, strength, rival, rival_strength, images: IMAGES[number("images")], noise: number("noise") };
  }

  function fill(name, options) {
    control(name).replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  }

  function showStrength(name, technique, strength) {
    const { values, knob } = TECHNIQUES[technique];
    const slider = control(name);
    slider.max = values.length - 1;
    slider.value = Math.max(0, values.indexOf(strength));
    slider.closest("label").hidden = values.length < 2;
    label(slider, `${knob} ${values[slider.value]}`);
  }

  function label(slider, text) {
    slider.closest("label").querySelector("span").textContent = text;
    slider.setAttribute("aria-valuetext", text);
  }

  function show(view) {
    control("technique").value = view.technique;
    control("rival").value = view.rival;
    showStrength("strength", view.technique, view.strength);
    showStrength("rival_strength", view.rival, view.rival_strength);
    control("images").value = IMAGES.indexOf(view.images);
    label(control("images"), `${view.images} training images`);
    control("noise").value = view.noise;
  }

  function changed(event) {
    const name = event.target.name;
    for (const [technique, strength] of [["technique", "strength"], ["rival", "rival_strength"]]) {
      if (name === technique) {
        const chosen = control(technique).value;
        showStrength(strength, chosen, TECHNIQUES[chosen].usual ?? 0);
      }
    }
    if (name === "guess") return;
    stop();
    const view = state();
    show(view);
    say("");
    if (!fixed) history.replaceState(null, "", "#" + new URLSearchParams(view));
  }

  /* Load a script of the laboratory once. */
  function load(file) {
    const known = document.getElementById("laboratory-" + file);
    if (known) return known.loading;
    const script = document.createElement("script");
    script.id = "laboratory-" + file;
    script.src = base + file + ".js";
    script.loading = new Promise((done, failed) => {
      script.onload = done;
      script.onerror = () => failed(new Error(`${file}.js could not be loaded`));
    });
    document.head.append(script);
    return script.loading;
  }

  /* Unpack the digits: a byte a pixel, deflated, in base 64. The browser does it in the background. */
  async function unpack() {
    if (digits) return;
    await load("digits");
    const { packed, parts } = window.laboratoryDigits;
    const { body } = await fetch(`data:application/octet-stream;base64,${packed}`);
    const stream = body.pipeThrough(new DecompressionStream("deflate"));
    const pixels = new Uint8Array(await new Response(stream).arrayBuffer());
    const found = {};
    let from = 0;
    for (const [name, labels] of Object.entries(parts)) {
      const images = pixels.subarray(from, from + 784 * labels.length);
      found[name] = { images, labels: Uint8Array.from(labels, Number) };
      from += images.length;
    }
    digits = found;
  }

  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const signed = (points) => (points < 0 ? "−" : "+") + Math.abs(points).toFixed(1);

  /* The mean difference of pairs and its 95 % interval, in points. */
  function difference(ours, theirs) {
    const gaps = ours.map((value, k) => 100 * (value - theirs[k]));
    const middle = mean(gaps);
    const spread = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - middle) ** 2, 0) / (gaps.length - 1));
    const half = (T9 * spread) / Math.sqrt(gaps.length);
    return { gaps, mean: middle, low: middle - half, high: middle + half };
  }

  /* The epoch of each network that is kept: the last, the best by validation, or where it stopped. */
  function kept(history, technique, strength, best) {
    return PAIRS.map((k) => {
      let top = 0;
      for (let e = 1; e < history.length; e++) {
        if (technique === "early stopping" && !best && e - top > strength) break;
        if (history[e].val[k] > history[top].val[k]) top = e;
      }
      return best || technique === "early stopping" ? top : history.length - 1;
    });
  }

  function named(technique, strength) {
    return technique === "none" ? "plain" : `${technique} ${strength}`;
  }

  function sentence(view, best) {
    const [ours, theirs] = ["technique", "rival"].map((side, i) => {
      const strength = view[i ? "rival_strength" : "strength"];
      const epochs = kept(curves[i], view[side], strength, best);
      return PAIRS.map((k) => curves[i][epochs[k]].test[k]);
    });
    const { mean: gain, low, high } = difference(ours, theirs);
    const verdict = low > 0 ? "lies above zero" : high < 0 ? "lies below zero" : "contains zero: no clear difference";
    const names = [named(view.technique, view.strength), named(view.rival, view.rival_strength)];
    const text = `${best ? "With both at their best epochs" : `After ${EPOCHS} epochs`}, ${names[0]} gets ` +
      `${percent(mean(ours))} of the test digits right and ${names[1]} ${percent(mean(theirs))}: ${signed(gain)} points. ` +
      `The 95 % interval, ${signed(low)} to ${signed(high)}, ${verdict}.`;
    return { text, ours, theirs, sign: low > 0 ? "better" : high < 0 ? "worse" : "level" };
  }

  /* A row of dots per arm with a stroke at the mean, and the differences with their interval. */
  function dots(ours, theirs) {
    const WIDTH = 336;
    const scale = (values, margin) => {
      const [low, high] = [Math.min(...values) - margin, Math.max(...values) + margin];
      return { low, high, at: (value) => (12 + (WIDTH * (value - low)) / (high - low)).toFixed(1) };
    };
    const text = (x, y, words, more = "") => `<text x="${x}" y="${y}" font-size="12" ${more}>${words}</text>`;
    const circles = (values, axis, y, colour) => values.map((value, k) =>
      `<circle cx="${axis.at(value)}" cy="${y - 6 + 1.3 * k}" r="3.5" fill="${colour}" fill-opacity="0.6"/>`).join("");
    const shares = scale([...ours, ...theirs], 0.005);
    const rows = [ours, theirs].map((values, row) => {
      const [y, x, colour] = [30 + 46 * row, shares.at(mean(values)), colourOf(row)];
      return text(12, y - 15, named(...sideOf(row)), `fill="${colour}"`) + circles(values, shares, y, colour) +
        `<path d="M${x} ${y - 13}V${y + 13}" stroke="${colour}" stroke-width="3"/>`;
    });
    const { gaps, low, high, mean: middle } = difference(ours, theirs);
    const points = scale([...gaps, low, high, 0], 0.3);
    const zero = points.at(0);
    const pairs = text(12, 146, "difference, pair by pair, and its 95 % interval") + circles(gaps, points, 162, colourOf(0)) +
      `<path d="M${points.at(low)} 182H${points.at(high)}M${points.at(middle)} 177V187" stroke="${colourOf(0)}" stroke-width="3"/>` +
      `<path d="M${zero} 150V190" stroke="#1a1a1a" stroke-dasharray="3 3"/>` + text(zero, 204, "0", 'text-anchor="middle"');
    const ends = text(12, 112, percent(shares.low)) + text(348, 112, `${percent(shares.high)} right`, 'text-anchor="end"');
    part("dots").innerHTML = `<svg viewBox="0 0 360 210" role="img" aria-label="Test accuracy of ten networks each after ` +
      `${EPOCHS} epochs, ${named(...sideOf(0))} above ${named(...sideOf(1))}, and the ten differences">${rows.join("")}${ends}${pairs}</svg>`;
  }

  const sideOf = (i) => {
    const view = state();
    return i ? [view.rival, view.rival_strength] : [view.technique, view.strength];
  };
  const colourOf = (i) => (i && sideOf(1)[0] === sideOf(0)[0] ? "#777777" : window.laboratoryColours[sideOf(i)[0]]);

  /* Both arms as they grow: thin lines for networks, thick ones for means, dashed for training. */
  function draw() {
    const epochs = Array.from({ length: EPOCHS }, (_, e) => e + 1);
    const lines = [];
    const series = [{}];
    curves.forEach((history, i) => {
      const add = (width, dash, value) => {
        lines.push(epochs.map((_, e) => (e < history.length ? value(history[e]) : null)));
        series.push({ stroke: colourOf(i), width, dash, points: { show: false } });
      };
      for (const k of PAIRS) add(0.5, [], (seen) => seen.test[k]);
      add(2.5, [], (seen) => mean(seen.test));
      add(1.5, [6, 4], (seen) => mean(seen.train));
    });
    if (!chart) {
      const width = Math.min(part("chart").clientWidth, 640);
      const share = (u, values) => values.map((value) => `${Math.round(100 * value)} %`);
      chart = new uPlot({
        width, height: Math.round(width * 0.62), legend: { show: false }, cursor: { show: false },
        scales: { x: { time: false, range: [1, EPOCHS] }, y: { range: (u, low) => [Math.max(0, Math.floor(10 * low) / 10), 1] } },
        axes: [{ label: "epoch" }, { label: "accuracy", values: share, size: 60 }], series,
      }, [epochs, ...lines], part("chart"));
    } else {
      chart.setData([epochs, ...lines]);
    }
    part("key").replaceChildren(...[0, 1].map((i) => {
      const name = document.createElement("span");
      name.style.borderBottom = `3px solid ${colourOf(i)}`;
      name.textContent = named(...sideOf(i));
      return name;
    }));
    part("progress").textContent = `Epoch ${Math.min(...curves.map((c) => c.length))} of ${EPOCHS}`;
  }

  function stop() {
    workers.forEach((worker) => worker.terminate());
    workers = [];
    ready = 0;
    asking = Promise.resolve();
    part("train").textContent = "Train";
    part("pad").replaceChildren();
  }

  /* Whether the guess was right, and how many were, as this device remembers. */
  function judged(sign) {
    const guess = control("guess").value;
    if (!guess) return [];
    const right = guess === sign;
    let score = { right: 0, made: 0 };
    try {
      score = JSON.parse(localStorage.getItem("laboratory-guesses")) ?? score;
      score = { right: score.right + right, made: score.made + 1 };
      localStorage.setItem("laboratory-guesses", JSON.stringify(score));
    } catch {
      score = { right: Number(right), made: 1 };
    }
    control("guess").value = "";
    return [`Your guess was ${right ? "right" : "wrong"}: so far ${score.right} of ${score.made}.`];
  }

  /* What the networks of both arms answer to an image, ten shares each; one image after another. */
  function ask(pixels) {
    asking = asking.then(() => Promise.all(workers.map((worker) => new Promise((done) => {
      worker.onmessage = ({ data }) => done(data.answers);
      worker.postMessage({ ask: pixels });
    }))));
    return asking;
  }

  async function openPad() {
    await load("pad");
    const names = [0, 1].map((i) => named(...sideOf(i)));
    window.laboratoryPad(part("pad"), { ask, names, colours: [0, 1].map(colourOf), samples: digits.test });
  }

  function finished(view) {
    part("train").textContent = "Train";
    const end = sentence(view, false);
    const stopping = [view.technique, view.rival].includes("early stopping");
    const best = stopping ? [] : [sentence(view, true).text];
    part("result").replaceChildren(...[end.text, ...best, ...judged(end.sign)].map((text) => {
      const line = document.createElement("p");
      line.textContent = text;
      return line;
    }));
    dots(end.ours, end.theirs);
    part("progress").textContent = "Done";
  }

  /* Where nothing can be trained: the ten pairs of chapter 4, as the book stores them. */
  function showStored(reason) {
    stop();
    part("progress").textContent = "";
    say(`This browser cannot train here (${reason}). Below are ten pairs from chapter 4, from the book's own run.`);
    const stored = new Image();
    stored.src = `${base}../dropout.svg`;
    stored.alt = "Ten networks with dropout and ten without, a fifth of the labels wrong. At the end of training those with dropout are 6 to 9 points ahead; with both at their best epochs, about 0 to 3.";
    part("dots").replaceChildren(stored);
    showChart(false);
  }

  function showChart(shown) {
    for (const element of [part("chart"), part("key").parentElement]) element.hidden = !shown;
  }

  async function train() {
    const running = workers.length > ready;
    stop();
    if (running) return;
    const view = state();
    part("train").textContent = "Stop";
    part("result").replaceChildren();
    part("dots").replaceChildren();
    showChart(true);
    curves = [[], []];
    chart?.destroy();
    chart = null;
    draw(); // what the first epoch would have to wait for
    part("progress").textContent = "Loading";
    let source;
    try {
      await Promise.all([unpack(), load("worker")]);
      source = URL.createObjectURL(new Blob([`(${window.laboratoryWorker})()`], { type: "text/javascript" }));
      workers = [0, 1].map(() => new Worker(source));
    } catch (error) {
      return showStored(error.message);
    }
    const began = performance.now();
    workers.forEach((worker, i) => {
      const [technique, strength] = sideOf(i);
      const arm = technique in ARM ? { [ARM[technique]]: strength } : {};
      worker.onmessage = ({ data }) => {
        if (data.error) return showStored(data.error);
        if (data.ready) {
          ready += 1;
          if (ready === 2) openPad();
          return;
        }
        curves[i].push(data);
        draw();
        if (curves.every((history) => history.length === EPOCHS)) {
          root.dataset.labSeconds = ((performance.now() - began) / 1000).toFixed(1);
          const trained = workers;
          setTimeout(() => trained === workers && finished(view)); // the curves are painted first
        }
      };
      const setting = { images: view.images, noise: view.noise / 100 };
      worker.postMessage({ digits, setting, arm, pairs: PAIRS, epochs: EPOCHS });
    });
  }

  fill("technique", Object.entries(TECHNIQUES).filter(([key]) => key !== "none").map(([key, t]) => [key, t.name]));
  fill("rival", Object.entries(TECHNIQUES).map(([key, t]) => [key, t.name]));
  fill("noise", NOISE.map((share) => [share, share ? `${share} %` : "none"]));
  control("images").max = IMAGES.length - 1;
  show(fromAddress());
  root.hidden = false;
  root.addEventListener("input", changed);
  part("train").addEventListener("click", train);
  window.addEventListener("hashchange", () => {
    if (!fixed && location.hash.includes("=")) {
      stop();
      show(fromAddress());
    }
  });
};

const own = document.querySelector('[data-lab=""]');
if (own) window.laboratory(own);
})();

/* The pad of the laboratory: the networks that were just trained answer what is drawn on it. */
"use strict";
window.laboratoryPad = function (root, { ask, names, colours, samples }) {
  root.innerHTML = `
    <h3>Draw a digit</h3>
    <p>The twenty networks answer, with their last weights. Your digit is scaled to 20 pixels and centred by its ink, as MNIST's were. Then shift it, turn it, add noise: who is surer than they should be?</p>
    <canvas data-lab-pad-canvas width="224" height="224" role="img" aria-label="A pad to draw on with a finger or a mouse; without one, take a test digit"></canvas>
    <canvas data-lab-pad-seen width="28" height="28" role="img" aria-label="The digit as the networks see it"></canvas>
    <div class="explorer-controls">
      <button type="button" data-do="sample">Test digit</button>
      <button type="button" data-do="shift">Shift</button>
      <button type="button" data-do="turn">Turn</button>
      <button type="button" data-do="noise">Noise</button>
      <button type="button" data-do="clear">Clear</button>
    </div>
    <div data-lab-pad-text role="status"></div>
    <div data-lab-pad-bars></div>`;
  const SIDE = 28;
  const pad = root.querySelector("[data-lab-pad-canvas]");
  const pen = pad.getContext("2d", { willReadFrequently: true });
  const seen = root.querySelector("[data-lab-pad-seen]").getContext("2d", { willReadFrequently: true });
  let asked = 0;

  function sheet() {
    const made = document.createElement("canvas");
    made.width = made.height = SIDE;
    const context = made.getContext("2d", { willReadFrequently: true });
    context.imageSmoothingQuality = "high";
    return context;
  }

  /* The ink of a canvas, from 0 to 255: it is white on black, as MNIST's. */
  function ink(context) {
    const { width, height } = context.canvas;
    const { data } = context.getImageData(0, 0, width, height);
    return Uint8ClampedArray.from({ length: width * height }, (_, i) => data[4 * i]);
  }

  function blank(context) {
    context.fillStyle = "#000000";
    context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  }

  /* The middle of the ink, as x and y, and the box around it. */
  function measured(values, width) {
    let [sum, x, y, left, top, right, bottom] = [0, 0, 0, width, width, -1, -1];
    values.forEach((value, i) => {
      if (value < 8) return;
      const [column, row] = [i % width, Math.floor(i / width)];
      sum += value;
      x += value * (column + 0.5);
      y += value * (row + 0.5);
      [left, right] = [Math.min(left, column), Math.max(right, column)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row)];
    });
    return { x: x / sum, y: y / sum, left, top, width: right - left + 1, height: bottom - top + 1, empty: sum === 0 };
  }

  /* What is drawn, as MNIST has it: 20 pixels in the longer direction, and the ink in the middle. */
  function centred() {
    const box = measured(ink(pen), pad.width);
    if (box.empty) return false;
    const scale = 20 / Math.max(box.width, box.height);
    blank(seen);
    seen.imageSmoothingQuality = "high";
    seen.drawImage(pad, box.left, box.top, box.width, box.height, SIDE / 2 - (box.x - box.left) * scale,
      SIDE / 2 - (box.y - box.top) * scale, box.width * scale, box.height * scale);
    return true;
  }

  /* Draw again what the networks see, moved by a change of the canvas. */
  function redraw(change) {
    const copy = sheet();
    copy.drawImage(seen.canvas, 0, 0);
    blank(seen);
    seen.save();
    change(seen);
    seen.drawImage(copy.canvas, 0, 0);
    seen.restore();
  }

  function write(values) {
    const image = seen.createImageData(SIDE, SIDE);
    values.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
    seen.putImageData(image, 0, 0);
  }

  const DO = {
    clear() {
      [pen, seen].forEach(blank);
      asked += 1; // what was asked before has no image any more
      show(null);
    },
    sample() {
      const pick = Math.floor(Math.random() * samples.labels.length);
      const pixels = samples.images.subarray(784 * pick, 784 * (pick + 1));
      root.dataset.labSample = samples.labels[pick];
      write(Array.from(pixels, (pixel) => 17 * pixel));
      pen.imageSmoothingEnabled = false;
      pen.drawImage(seen.canvas, 0, 0, pad.width, pad.height);
    },
    shift() {
      const angle = 2 * Math.PI * Math.random();
      redraw((context) => context.translate(3 * Math.cos(angle), 3 * Math.sin(angle)));
    },
    turn() {
      redraw((context) => {
        context.translate(SIDE / 2, SIDE / 2);
        context.rotate(Math.PI / 9);
        context.translate(-SIDE / 2, -SIDE / 2);
      });
    },
    noise() {
      write(Array.from(ink(seen), (value) => value + 255 * (Math.random() - 0.5)));
    },
  };

  async function answer() {
    const mine = ++asked;
    const answers = await ask(Float32Array.from(ink(seen), (value) => value / 255));
    if (mine === asked) show(answers);
  }

  /* Two lines and two rows of bars: what each arm's ten networks say, and how sure they are. */
  function show(answers) {
    const [text, bars] = ["text", "bars"].map((name) => root.querySelector(`[data-lab-pad-${name}]`));
    text.replaceChildren();
    bars.replaceChildren();
    if (!answers) return;
    const rows = answers.map((all, side) => {
      const networks = Array.from({ length: all.length / 10 }, (_, k) => [...all.slice(10 * k, 10 * k + 10)]);
      const votes = networks.map((shares) => shares.indexOf(Math.max(...shares)));
      const count = (digit) => votes.filter((vote) => vote === digit).length;
      const first = votes.reduce((a, b) => (count(b) > count(a) ? b : a));
      const sure = networks.reduce((sum, shares) => sum + Math.max(...shares), 0) / networks.length;
      const line = document.createElement("p");
      line.textContent = `${names[side]}: ${count(first)} of ${votes.length} networks say ${first}; on average ` +
        `they are ${Math.round(100 * sure)} % sure of what they say.`;
      text.append(line);
      const means = Array.from({ length: 10 }, (_, c) => networks.reduce((sum, shares) => sum + shares[c], 0) / networks.length);
      return means.map((share, c) => `<rect x="${20 + 32 * c + 15 * side}" y="${100 - 90 * share}" width="13" ` +
        `height="${90 * share}" fill="${colours[side]}"/>`).join("");
    });
    const digits = Array.from({ length: 10 }, (_, c) => `<text x="${33 + 32 * c}" y="114" font-size="12" text-anchor="middle">${c}</text>`);
    bars.innerHTML = `<svg viewBox="0 0 350 120" role="img" aria-label="Mean probability of each digit, ${names[0]} beside ${names[1]}">` +
      `<path d="M16 100H344" stroke="#1a1a1a"/>${rows.join("")}${digits.join("")}</svg>`;
  }

  const place = (event) => [event.offsetX * pad.width / pad.clientWidth, event.offsetY * pad.height / pad.clientHeight];
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    Object.assign(pen, { strokeStyle: "#ffffff", lineWidth: 18, lineCap: "round", lineJoin: "round" });
    pen.beginPath();
    pen.moveTo(...place(event));
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pad.hasPointerCapture(event.pointerId)) return;
    pen.lineTo(...place(event));
    pen.stroke();
  });
  pad.addEventListener("pointerup", () => { if (centred()) answer(); });
  for (const button of root.querySelectorAll("[data-do]")) {
    button.addEventListener("click", () => {
      DO[button.dataset.do]();
      if (button.dataset.do !== "clear") answer();
    });
  }
  DO.clear();
};

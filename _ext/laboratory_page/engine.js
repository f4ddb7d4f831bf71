/* The laboratory's training, in a worker of its own. `jax` is @jax-js/jax, in front of this file.

   Ten networks of one arm train side by side: every array has a leading axis for the pair. Pair k
   takes its images, wrong labels, first weights and order from random numbers that depend on k
   alone, so that the other arm, in another worker, has the same. */
"use strict";
const { numpy: np, nn, jit, valueAndGrad } = jax;
const SIZES = [784, 64, 64, 64, 10];
const BATCH = 32;
const RATE = 0.001;

/* Random numbers in [0, 1) from a seed (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/* A stream of random numbers of its own for each pair and purpose. */
const stream = (pair, purpose) => generator(1 + 7919 * pair + 104729 * purpose);
const PURPOSE = { images: 1, labels: 2, weights: 3, masks: 4, moves: 5, order: 100 };

function shuffled(count, random) {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/* The training set of a pair: places in the pool, and labels of which a share is wrong. */
function draw(pair, setting, pool) {
  const places = shuffled(pool.labels.length, stream(pair, PURPOSE.images)).slice(0, setting.images);
  const labels = Uint8Array.from(places, (place) => pool.labels[place]);
  const random = stream(pair, PURPOSE.labels);
  const wrong = shuffled(setting.images, random).slice(0, Math.round(setting.noise * setting.images));
  for (const i of wrong) labels[i] = (labels[i] + 1 + Math.floor(9 * random())) % 10;
  return { places, labels };
}

/* Glorot's uniform start, as in Keras: kernels of all pairs, and biases of zero.

   A kernel has a row for each unit of its own layer, the other way round than in Keras: a product
   with rows that lie in one piece takes a third of the time. */
function start(pairs) {
  const randoms = pairs.map((pair) => stream(pair, PURPOSE.weights));
  return SIZES.slice(1).map((to, i) => {
    const from = SIZES[i];
    const limit = Math.sqrt(6 / (from + to));
    const kernel = new Float32Array(pairs.length * from * to);
    randoms.forEach((random, k) => {
      for (let i = 0; i < from; i++) {
        for (let j = 0; j < to; j++) kernel[(k * to + j) * from + i] = limit * (2 * random() - 1);
      }
    });
    return { w: np.array(kernel).reshape([pairs.length, to, from]), b: np.zeros([pairs.length, 1, to]) };
  });
}

/* Copy an image, turned and shifted by up to a share of its width, as the book's layers do. */
function moved(from, at, to, put, shift, random) {
  const angle = (random() * 2 - 1) * (shift / 2) * 2 * Math.PI;
  const [dx, dy] = [(random() * 2 - 1) * shift * 28, (random() * 2 - 1) * shift * 28];
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  for (let y = 0; y < 28; y++) {
    for (let x = 0; x < 28; x++) {
      const [cx, cy] = [x - 13.5 - dx, y - 13.5 - dy];
      const [sx, sy] = [cos * cx - sin * cy + 13.5, sin * cx + cos * cy + 13.5];
      const [left, top] = [Math.floor(sx), Math.floor(sy)];
      const [fx, fy] = [sx - left, sy - top];
      const pixel = (i, j) => (i < 0 || j < 0 || i > 27 || j > 27 ? 0 : from[at + 28 * j + i]);
      const above = (1 - fx) * pixel(left, top) + fx * pixel(left + 1, top);
      const below = (1 - fx) * pixel(left, top + 1) + fx * pixel(left + 1, top + 1);
      to[put + 28 * y + x] = (1 - fy) * above + fy * below;
    }
  }
}

/* What the last layer computes, before the softmax; `masks` are those of dropout, or empty. */
function forward(layers, x, masks) {
  let h = x;
  layers.forEach(({ w, b }, i) => {
    h = np.matmul(h, np.transpose(w, [0, 2, 1])).add(b);
    if (i < layers.length - 1) h = nn.relu(h);
    if (masks[i]) h = h.mul(masks[i]);
  });
  return h;
}

/* The sum over the networks of their mean log-loss with penalties on the hidden kernels, and what
   their last layers compute. */
function loss(layers, x, y, masks, arm) {
  let penalty = np.array(0);
  for (const { w } of layers.slice(0, -1)) {
    if (arm.l2) penalty = penalty.add(np.square(w.ref).sum().mul(arm.l2));
    if (arm.l1) penalty = penalty.add(np.abs(w.ref).sum().mul(arm.l1));
  }
  const count = y.shape[1];
  const scores = forward(layers, x, masks);
  return [nn.logSoftmax(scores.ref, -1).mul(y).sum().mul(-1 / count).add(penalty), scores];
}

/* One step of Adam for all networks; `rate` holds the correction for the first steps. */
function stepper(arm) {
  const slopes = valueAndGrad((layers, x, y, masks) => loss(layers, x, y, masks, arm), { hasAux: true });
  const refs = (layers) => layers.map(({ w, b }) => ({ w: w.ref, b: b.ref }));
  return jit((layers, m, v, x, y, masks, rate) => {
    const [[value, scores], gradient] = slopes(refs(layers), x, y, masks);
    value.dispose();
    const next = [[], [], []];
    layers.forEach((layer, i) => {
      const made = [{}, {}, {}];
      for (const name of ["w", "b"]) {
        const g = gradient[i][name];
        const first = m[i][name].mul(0.9).add(g.ref.mul(0.1));
        const second = v[i][name].mul(0.999).add(np.square(g).mul(0.001));
        const step = first.ref.div(np.sqrt(second.ref).add(1e-7)).mul(rate.ref);
        made[0][name] = layer[name].sub(step);
        made[1][name] = first;
        made[2][name] = second;
      }
      made.forEach((part, k) => next[k].push(part));
    });
    rate.dispose();
    return [scores, ...next];
  });
}

/* How many right answers each network gives to images `from` to `to`, of scores of shape
   (networks, images, 10). */
function hits(scores, networks, labels, from = 0, to = scores.length / 10 / networks) {
  const count = scores.length / 10 / networks;
  return Array.from({ length: networks }, (_, k) => {
    let right = 0;
    for (let i = from; i < to; i++) {
      const at = 10 * (k * count + i);
      let best = 0;
      for (let c = 1; c < 10; c++) if (scores[at + c] > scores[at + best]) best = c;
      right += best === labels(k, i - from);
    }
    return right;
  });
}

const SCALE = 15; // grey levels
const floats = (pixels) => Float32Array.from(pixels, (pixel) => pixel / SCALE);

/* Train one arm, and report after each epoch the accuracies of all its networks: of training images
   while they train, as Keras does, with dropout at work and the weights of that moment.

   Returns a function of an image that gives what each network answers at the end, ten shares each. */
async function train({ digits, setting, arm, pairs, epochs }, report) {
  const sets = pairs.map((pair) => draw(pair, setting, digits.pool));
  const pool = floats(digits.pool.images);
  const S = pairs.length;
  let layers = start(pairs);
  const zeros = () => layers.map(({ w, b }) => ({ w: np.zeros(w.shape), b: np.zeros(b.shape) }));
  let [m, v] = [zeros(), zeros()];
  const step = stepper(arm);
  /* The scores of images that are the same for all networks, whose first layers are one product. */
  const answer = jit(([{ w, b }, ...others], x) => {
    const outputs = np.matmul(x, np.transpose(w.reshape([S * SIZES[1], 784]))).reshape([-1, S, SIZES[1]]);
    return forward(others, nn.relu(np.transpose(outputs, [1, 0, 2]).add(b)), []);
  });
  const known = new Float32Array(S * setting.images * 784);
  sets.forEach(({ places }, k) => places.forEach((place, i) => {
    known.set(pool.subarray(784 * place, 784 * (place + 1)), 784 * (k * setting.images + i));
  }));
  const [validation, test] = [digits.validation, digits.test];
  const parts = [validation, test].map(({ images }) => np.array(floats(images)).reshape([-1, 784]));
  const unseen = np.concatenate(parts);
  const masks = pairs.map((pair) => stream(pair, PURPOSE.masks));
  const moves = pairs.map((pair) => stream(pair, PURPOSE.moves));
  const smooth = arm.smoothing || 0;
  let t = 0;
  for (let epoch = 1; epoch <= epochs; epoch++) {
    const learned = new Array(S).fill(0);
    const orders = pairs.map((pair) => shuffled(setting.images, stream(pair, PURPOSE.order + epoch)));
    for (let from = 0; from < setting.images; from += BATCH) {
      const count = Math.min(BATCH, setting.images - from);
      const x = new Float32Array(S * count * 784);
      const y = new Float32Array(S * count * 10).fill(smooth / 10);
      for (let k = 0; k < S; k++) {
        for (let i = 0; i < count; i++) {
          const row = orders[k][from + i];
          const [at, put] = [784 * (k * setting.images + row), 784 * (k * count + i)];
          if (arm.shift) moved(known, at, x, put, arm.shift, moves[k]);
          else x.set(known.subarray(at, at + 784), put);
          y[10 * (k * count + i) + sets[k].labels[row]] += 1 - smooth;
        }
      }
      const dropped = !arm.rate ? [] : SIZES.slice(1, -1).map((units) => {
        const mask = new Float32Array(S * count * units);
        const kept = 1 / (1 - arm.rate);
        for (let k = 0; k < S; k++) {
          const random = masks[k];
          for (let j = 0; j < count * units; j++) {
            mask[k * count * units + j] = random() < arm.rate ? 0 : kept;
          }
        }
        return np.array(mask).reshape([S, count, units]);
      });
      t += 1;
      const rate = RATE * Math.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t);
      const inputs = [np.array(x).reshape([S, count, 784]), np.array(y).reshape([S, count, 10])];
      let scores;
      [scores, layers, m, v] = step(layers, m, v, ...inputs, dropped, np.array(rate));
      const label = (k, i) => sets[k].labels[orders[k][from + i]];
      hits(await scores.data(), S, label).forEach((right, k) => { learned[k] += right; });
    }
    const parameters = layers.map(({ w, b }) => ({ w: w.ref, b: b.ref }));
    const scores = await answer(parameters, unseen.ref).data();
    const border = validation.labels.length;
    const share = (counts, images) => counts.map((right) => right / images);
    report({
      epoch,
      train: share(learned, setting.images),
      val: share(hits(scores, S, (k, i) => validation.labels[i], 0, border), border),
      test: share(hits(scores, S, (k, i) => test.labels[i], border), test.labels.length),
    });
  }
  const shares = jit((parameters, x) => nn.softmax(forward(parameters, x, []), -1));
  return (pixels) => {
    const parameters = layers.map(({ w, b }) => ({ w: w.ref, b: b.ref }));
    return shares(parameters, np.array(pixels).reshape([1, 1, 784])).data();
  };
}

let answers = null;
self.onmessage = async ({ data }) => {
  try {
    if (data.ask) return self.postMessage({ answers: await answers(data.ask) });
    await jax.init("wasm");
    jax.defaultDevice("wasm");
    answers = await train(data, (seen) => self.postMessage(seen));
    self.postMessage({ ready: true });
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};

const EPISODES = JSON.parse(DATA.table);
const TERMS = Object.keys(DATA.subject.terms);
const RIDGE = 1, Z = 1.959964;
// The longer episode of a pair plays for SECONDS, or longer so that the shorter one takes at least
// MIN_SECONDS; one frame per TICK milliseconds.
const SECONDS = 5, MIN_SECONDS = 1.5, MAX_SECONDS = 12, TICK = 40;
// The fit is stable when the episodes' values correlate this strongly with those some answers ago.
const STABLE_ANSWERS = 10, STABLE_CORRELATION = 0.98;
const TEST_PARTS = 20, CHANCE_LEVEL = 0.05; // of the test against chance, as in `shaperun fit`
const dot = (a, b) => { let total = 0; for (let i = 0; i < a.length; i++) total += a[i] * b[i]; return total; };

/* ---------------------------------------------------------------------------------------------
   Mirror of shaperun/preferences/fit.py: a Bradley-Terry model with a ridge, by Newton's method.
   `shaperun fit` chooses the ridge by cross-validation; here it is fixed.
   ------------------------------------------------------------------------------------------ */

const SCALED = EPISODES.map((e) => e.sums.map((value, k) => value * DATA.scales[k]));
const difference = ([a, b]) => SCALED[a].map((value, k) => value - SCALED[b][k]);

/** Return the lower triangular matrix L with L Lᵀ = A. */
function cholesky(a) {
  const n = a.length, l = a.map(() => new Float64Array(n));
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let rest = a[i][j];
      for (let k = 0; k < j; k++) rest -= l[i][k] * l[j][k];
      l[i][j] = i === j ? Math.sqrt(rest) : rest / l[j][j];
    }
  }
  return l;
}

/** Solve L x = b. */
function solveLower(l, b) {
  const x = Float64Array.from(b);
  for (let i = 0; i < x.length; i++) {
    for (let k = 0; k < i; k++) x[i] -= l[i][k] * x[k];
    x[i] /= l[i][i];
  }
  return x;
}

/** Solve Lᵀ x = b. */
function solveUpper(l, b) {
  const x = Float64Array.from(b);
  for (let i = x.length - 1; i >= 0; i--) {
    for (let k = i + 1; k < x.length; k++) x[i] -= l[k][i] * x[k];
    x[i] /= l[i][i];
  }
  return x;
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const PREFERENCES = { left: 1, right: 0, equal: 0.5 }; // as in shaperun/preferences/answers.py

/**
 * Loss, gradient and Hessian by the weights.
 * Mirrors shaperun/preferences/fit.py: the loss in fit_weights, and compute_hessian; held together
 * by tests/preferences/test_page.py::test_page_and_fit_agree.
 */
function derivatives(weights, rows) {
  const n = weights.length;
  let loss = (RIDGE / 2) * dot(weights, weights);
  const gradient = weights.map((w) => RIDGE * w);
  const hessian = Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (__, j) => (i === j ? RIDGE : 0)));
  for (const { d, y } of rows) {
    const logit = dot(weights, d), p = sigmoid(logit), curvature = p * (1 - p);
    loss += Math.max(0, logit) + Math.log1p(Math.exp(-Math.abs(logit))) - y * logit;
    for (let i = 0; i < n; i++) {
      gradient[i] += (p - y) * d[i];
      for (let j = 0; j < n; j++) hessian[i][j] += curvature * d[i] * d[j];
    }
  }
  return { loss, gradient, hessian };
}

/**
 * Maximum a posteriori weights, and the Cholesky factor of the Hessian there.
 * Mirrors shaperun/preferences/fit.py: fit_weights; held together by
 * tests/preferences/test_page.py::test_page_and_fit_agree.
 */
function fitWeights(answers) {
  const rows = answers
    .filter((a) => a.answer in PREFERENCES)
    .map((a) => ({ d: difference([a.left, a.right]), y: PREFERENCES[a.answer] }));
  let weights = new Float64Array(TERMS.length), current = derivatives(weights, rows);
  for (let iteration = 0; iteration < 50; iteration++) {
    const l = cholesky(current.hessian), step = solveUpper(l, solveLower(l, current.gradient));
    let size = 1, next, candidate;
    do {
      next = weights.map((w, k) => w - size * step[k]);
      candidate = derivatives(next, rows);
      size /= 2;
    } while (candidate.loss > current.loss && size > 1e-6);
    weights = next;
    current = candidate;
    if (Math.max(...step.map(Math.abs)) < 1e-9) break;
  }
  return { weights, factor: cholesky(current.hessian) };
}

/**
 * Probability that guesses are predicted as often as the answers, each part from those before it.
 * Mirrors shaperun/preferences/fit.py: compute_p_chance; held together by
 * tests/preferences/test_page.py::test_page_and_fit_agree.
 */
function guessProbability(answers) {
  const known = answers.filter((a) => a.answer in PREFERENCES);
  const parts = Math.min(TEST_PARTS, known.length), size = Math.floor(known.length / parts);
  let correct = 0, predicted = 0, start = 0;
  for (let part = 0; part < parts; part++) {
    const end = start + size + (part < known.length % parts ? 1 : 0);
    const { weights } = start ? fitWeights(known.slice(0, start)) : {};
    for (const a of start ? known.slice(start, end) : []) {
      if (a.answer === "equal") continue;
      predicted += 1;
      correct += dot(weights, difference([a.left, a.right])) * (PREFERENCES[a.answer] - 0.5) > 0;
    }
    start = end;
  }
  let probability = 0.5 ** predicted, total = 0;
  for (let number = 0; number <= predicted; number++) {
    if (number >= correct) total += probability;
    probability *= (predicted - number) / (number + 1);
  }
  return total;
}

/**
 * Half-widths of the weights' 95% intervals.
 * Mirrors shaperun/preferences/fit.py: fit_answers (its `error`); held together by
 * tests/preferences/test_page.py::test_page_and_fit_agree.
 */
function halfWidths(factor) {
  return TERMS.map((_, k) => {
    const unit = new Float64Array(TERMS.length);
    unit[k] = 1;
    const x = solveLower(factor, unit);
    return Z * Math.sqrt(dot(x, x));
  });
}

/* ---------------------------------------------------------------------------------------------
   Choice of the next pair.
   ------------------------------------------------------------------------------------------ */

/** Return a seeded generator of numbers in [0, 1) (mulberry32). */
function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** All pairs of episodes with the same start, in random order and on random sides. */
function allPairs(random) {
  const pairs = [];
  EPISODES.forEach((one, a) => EPISODES.forEach((other, b) => {
    if (a < b && one.start === other.start) pairs.push(random() < 0.5 ? [a, b] : [b, a]);
  }));
  for (let i = pairs.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [pairs[i], pairs[j]] = [pairs[j], pairs[i]];
  }
  return pairs;
}

const pairKey = (a, b) => (a < b ? `${a}-${b}` : `${b}-${a}`);
const outcomeKey = (a, b) => [EPISODES[a].outcome, EPISODES[b].outcome].sort().join(" ");

/**
 * The most informative pair under the fit: it maximizes log(1 + p (1 − p) dᵀ H⁻¹ d), divided by one
 * more than the number of answers about the same two outcomes.
 */
function nextPair({ weights, factor }) {
  const asked = new Set(state.answers.map((a) => pairKey(a.left, a.right))), outcomes = new Map();
  for (const a of state.answers) {
    const key = outcomeKey(a.left, a.right);
    outcomes.set(key, (outcomes.get(key) ?? 0) + 1);
  }
  let best = null, highest = -1;
  for (const pair of PAIRS) {
    if (asked.has(pairKey(...pair))) continue;
    const d = difference(pair), p = sigmoid(dot(weights, d)), x = solveLower(factor, d);
    const gain = Math.log1p(p * (1 - p) * dot(x, x)) / (1 + (outcomes.get(outcomeKey(...pair)) ?? 0));
    if (gain > highest) [best, highest] = [pair, gain];
  }
  return best;
}

/* ---------------------------------------------------------------------------------------------
   Display.
   ------------------------------------------------------------------------------------------ */

const state = { answers: [], pair: null, fit: null, timer: null };
const STORAGE_KEY = `shaperun ask ${DATA.digest}`;

function storeAnswers() {
  try { localStorage.setItem(STORAGE_KEY, JSON.stringify(state.answers)); } catch { /* storage is disabled */ }
}

const isAnswer = (a) =>
  ["left", "right", "equal", "unsure"].includes(a?.answer) &&
  [a.left, a.right].every((index) => Number.isInteger(index) && index in EPISODES);

/** Answers of an earlier visit, so that closing the page loses none. */
function storedAnswers() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY));
    return Array.isArray(stored) ? stored.filter(isAnswer) : [];
  } catch {
    return [];
  }
}

function showPair() {
  clearInterval(state.timer);
  const finished = state.pair === null;
  byId("question").textContent = finished ? "All pairs are answered." : "Which episode is better?";
  for (const element of document.querySelectorAll("#choices button, .side, #replay")) element.disabled = finished;
  byId("undo").disabled = state.answers.length === 0;
  if (!finished) loadPair();
}

/** Load both filmstrips, and play once both are decoded. */
function loadPair() {
  const pair = state.pair;
  state.sides = ["left", "right"].map((side, i) => {
    const strip = DATA.strips[pair[i]], canvas = byId(side).querySelector("canvas"), image = new Image();
    setAttributes(canvas, { width: strip.width, height: strip.height });
    byId(side).querySelector(".caption").textContent = "";
    image.src = strip.image;
    return { side, strip, image, episode: EPISODES[pair[i]], context: canvas.getContext("2d") };
  });
  Promise.all(state.sides.map(({ image }) => image.decode())).then(() => {
    if (state.pair === pair) play();
  });
}

function play() {
  clearInterval(state.timer);
  const lengths = state.sides.map(({ episode }) => episode.length), longest = Math.max(...lengths);
  const seconds = Math.min(MAX_SECONDS, Math.max(SECONDS, (MIN_SECONDS * longest) / Math.min(...lengths)));
  const start = performance.now();
  const draw = () => {
    const elapsed = reducedMotion.matches ? Infinity : (performance.now() - start) / 1000;
    const step = Math.min(longest, (longest * elapsed) / seconds);
    for (const side of state.sides) drawSide(side, step, longest);
    if (step === longest) clearInterval(state.timer);
  };
  state.timer = setInterval(draw, TICK);
  draw();
}

function drawSide({ side, strip, image, episode, context }, step, longest) {
  const { length, outcome } = episode;
  drawFrame(context, image, strip, step, length);
  byId(side).querySelector(".track > span").style.width = `${(100 * Math.min(step, length)) / longest}%`;
  byId(side).querySelector(".caption").textContent = step >= length
    ? `${words(outcome)} after ${length.toLocaleString("en")} steps`
    : `step ${Math.floor(step).toLocaleString("en")}`;
}

function showFit() {
  const { weights, factor } = state.fit, errors = halfWidths(factor);
  const reach = Math.max(1, ...weights.map((w, k) => Math.abs(w) + errors[k]));
  const position = (value) => 50 + (50 * value) / reach;
  const part = (kind, from, to) => {
    const element = make("span", { class: kind });
    element.style.left = `${position(from)}%`;
    element.style.width = `${position(to) - position(from)}%`;
    return element;
  };
  const rows = TERMS.map((name, k) => {
    const weight = weights[k], error = errors[k];
    const bar = make(
      "div", { class: "bar", role: "img", "aria-label": `${weight.toFixed(2)} ± ${error.toFixed(2)}` },
      make("span", { class: "zero" }),
      part(weight < 0 ? "value negative" : "value", Math.min(0, weight), Math.max(0, weight)),
      part("range", weight - error, weight + error));
    const row = { class: "term", title: DATA.formulas[k], "data-term": name, "data-weight": weight, "data-error": error };
    return make("div", row, make("span", { class: "name small" }, words(name)), bar);
  });
  byId("terms").replaceChildren(...rows);
}

/** Correlation of all episodes' values with those of `STABLE_ANSWERS` answers ago. */
function correlation() {
  const before = fitWeights(state.answers.slice(0, -STABLE_ANSWERS)).weights;
  const [a, b] = [state.fit.weights, before].map((weights) => {
    const values = SCALED.map((sums) => dot(weights, sums)), center = mean(values);
    return values.map((value) => value - center);
  });
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function showProgress() {
  const { length } = state.answers;
  const decided = state.answers.filter((a) => a.answer === "left" || a.answer === "right").length;
  const missing = DATA.fewest - decided;
  const stable = decided >= DATA.fewest + STABLE_ANSWERS && correlation() > STABLE_CORRELATION;
  const chance = missing > 0 ? 1 : guessProbability(state.answers);
  const advice = missing > 0 ? `A fit needs ${missing} more that prefer one of the two.`
    : stable && chance > CHANCE_LEVEL ? "The fit predicts your answers no better than guesses would: please continue."
    : stable ? `The last ${STABLE_ANSWERS} hardly changed which episodes rank higher: you may stop.`
      : "Answers still change which episodes rank higher: please continue.";
  byId("progress").textContent =
    `${length} answer${length === 1 ? "" : "s"}, ${PAIRS.length - length} pairs left. ${advice}`;
  setAttribute(byId("progress"), "data-stable", stable && chance <= CHANCE_LEVEL);
  setAttribute(byId("progress"), "data-chance", chance);
  byId("save").disabled = missing > 0;
}

/* ---------------------------------------------------------------------------------------------
   Answers.
   ------------------------------------------------------------------------------------------ */

function update() {
  state.fit = fitWeights(state.answers);
  state.pair = nextPair(state.fit);
  showPair();
  showFit();
  showProgress();
}

function answer(choice) {
  if (state.pair === null) return;
  const [left, right] = state.pair;
  state.answers.push({ left, right, answer: choice });
  storeAnswers();
  update();
}

function undo() {
  state.answers.pop();
  storeAnswers();
  update();
}

function answerSheet() {
  const { format, study, subject, table, digest } = DATA;
  return JSON.stringify({ format, study, subject, table, digest, answers: state.answers }, null, 1);
}

function save() {
  const url = URL.createObjectURL(new Blob([answerSheet()], { type: "application/json" }));
  const link = make("a", { href: url, download: `${DATA.study}-answers.json` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
  byId("next-step").replaceChildren(
    `Saved as ${link.download} in the browser’s download folder. Next: `,
    make("code", {}, `shaperun fit ${link.download}`));
}

const KEYS = {
  ArrowLeft: () => answer("left"), ArrowRight: () => answer("right"), "=": () => answer("equal"),
  "?": () => answer("unsure"), " ": play, u: undo,
};

function addListeners() {
  for (const button of byId("choices").children) button.addEventListener("click", () => answer(button.dataset.answer));
  for (const side of ["left", "right"]) byId(side).addEventListener("click", () => answer(side));
  byId("replay").addEventListener("click", play);
  byId("undo").addEventListener("click", undo);
  byId("save").addEventListener("click", save);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
    if (event.key === " " && document.activeElement instanceof HTMLButtonElement) return; // presses the button
    if (event.key === "u" && state.answers.length === 0) return;
    event.preventDefault();
    KEYS[event.key]();
  });
}

/** Seed of the order of pairs: random for each visit; #3 at the end of the address sets it. */
const SEED = Number(location.hash.slice(1)) || crypto.getRandomValues(new Uint32Array(1))[0];
const PAIRS = allPairs(seededRandom(SEED));

state.answers = storedAnswers();
document.title = `${DATA.study} · shaperun ask`;
byId("title").textContent = DATA.study;
byId("subtitle").textContent =
  `${DATA.subject.environment.id}: ${EPISODES.length} episodes. Choose the better of two; weights are fitted to your answers.`;
addListeners();
update();

/* ---------------------------------------------------------------------------------------------
   Data: the recorded episodes of every behavior, with the value of every term at each step.
   ------------------------------------------------------------------------------------------ */

const BEHAVIORS = DATA.behaviors;
const ARMS = new Map(Object.entries(DATA.arms)); // name -> the arm as its study file has it

/** Decode little-endian float64 numbers that were deflated and base64-encoded. */
async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Float64Array(await new Response(plain).arrayBuffer());
}

async function unpackEpisodes() {
  for (const episode of BEHAVIORS.flatMap((behavior) => behavior.episodes)) {
    episode.envReward = await unpack(episode.env_reward); // (T,)
    episode.values = await unpack(episode.terms); // (K, T) in one row, at the state after each step
  }
}

/* ---------------------------------------------------------------------------------------------
   Mirror of the reward kernel: the page cannot call Python, so these functions repeat it.
     reward: {mode, scheduled, factor, terms: [{name, column, weight}]}, weights times scale
     episode: as above
   Both sides are held together by tests/check/test_preview.py: Page.check compares every number
   that the page shows with shaperun's result for the YAML that the page shows.
   ------------------------------------------------------------------------------------------ */

/**
 * Shaping of some terms at each step (T,).
 * Mirrors shaperun/rewards/kernel.py: RewardKernel.__call__ (its `shaping`); held together by
 * tests/check/test_preview.py::test_moved_weights_mode_and_gamma_match_the_kernel.
 */
function shaping(reward, episode, gamma, terms) {
  const { length, values, first } = episode;
  const { mode, factor } = reward;
  const result = new Float64Array(length);
  if (mode === "log") return result;
  let before = terms.reduce((total, term) => total + term.weight * first[term.column], 0);
  for (let t = 0; t < length; t++) {
    let after = 0;
    for (const term of terms) after += term.weight * values[term.column * length + t];
    if (mode === "potential") {
      const next = isFinal(episode) && t === length - 1 ? 0 : after;
      result[t] = gamma * (next * factor) - factor * before;
    } else {
      result[t] = factor * after;
    }
    before = after;
  }
  return result;
}

/**
 * Whether the potential is 0 after an episode: a truncated one goes on for learners that bootstrap.
 * Mirrors shaperun/rewards/kernel.py: RewardKernel.is_final; held together by
 * tests/check/test_preview.py::test_moved_weights_mode_and_gamma_match_the_kernel.
 */
function isFinal(episode) {
  return episode.terminated || !DATA.bootstraps;
}

/**
 * Discounted potential that the learner still has to pay back after an episode.
 * Mirrors shaperun/check/ranking.py: _potential_tails; held together by
 * tests/check/test_preview.py::test_moved_weights_mode_and_gamma_match_the_kernel.
 */
function potentialTail(reward, { length, values, ...episode }, gamma) {
  if (reward.mode !== "potential" || isFinal(episode)) return 0;
  const last = (term) => term.weight * values[(term.column + 1) * length - 1];
  return gamma ** length * reward.factor * sum(reward.terms.map(last));
}

/**
 * Factor of the environment's reward in the shaped reward.
 * Mirrors shaperun/rewards/kernel.py: RewardKernel.shaped; held together by
 * tests/check/test_preview.py::test_custom_terms_and_schedules_match_the_kernel.
 */
function environmentShare(reward) {
  if (reward.mode !== "replace") return 1;
  return reward.scheduled ? 1 - reward.factor : 0;
}

/**
 * Reward that the learner sees at each step (T,).
 * Mirrors shaperun/rewards/kernel.py: RewardKernel.shaped; held together by
 * tests/check/test_preview.py::test_custom_terms_and_schedules_match_the_kernel.
 */
function shapedRewards(reward, episode, gamma) {
  const share = environmentShare(reward);
  return shaping(reward, episode, gamma, reward.terms).map((s, t) =>
    share ? share * episode.envReward[t] + s : s,
  );
}

/**
 * Undiscounted and discounted return of an episode.
 * Mirrors shaperun/check/behaviors.py: Behavior.per_episode; held together by
 * tests/check/test_preview.py::test_moved_weights_mode_and_gamma_match_the_kernel.
 */
function returns(rewards, powers) {
  let plain = 0, discounted = 0;
  for (let t = 0; t < rewards.length; t++) {
    plain += rewards[t];
    discounted += rewards[t] * powers[t];
  }
  return [plain, discounted];
}

/**
 * Returns of every behavior's episodes under a reward.
 * Mirrors shaperun/check/ranking.py: behavior_returns; held together by
 * tests/check/test_preview.py::test_moved_weights_mode_and_gamma_match_the_kernel.
 */
function behaviorReturns(reward, behaviors, gamma) {
  const lengths = behaviors.flatMap((b) => b.episodes.map((e) => e.length));
  const powers = Float64Array.from({ length: Math.max(...lengths) }, (_, t) => gamma ** t);
  return behaviors.map((behavior) => {
    const { episodes } = behavior;
    const shaped = episodes.map((e) => returns(shapedRewards(reward, e, gamma), powers));
    return {
      behavior,
      shaped: shaped.map((pair) => pair[0]),
      discounted: shaped.map((pair, i) => pair[1] - potentialTail(reward, episodes[i], gamma)),
      environment: episodes.map((e) => returns(e.envReward, powers)[0]),
    };
  });
}

/* ---------------------------------------------------------------------------------------------
   Mirror of the ranking, shaperun/check/ranking.py; `paid` is a result of behaviorReturns.
   ------------------------------------------------------------------------------------------ */

/** First of the largest items, as Python's max. */
function largest(items, value) {
  return items.reduce((top, item) => (value(item) > value(top) ? item : top));
}

/**
 * Mirror shaperun/check/ranking.py: most_rewarded and best_by_environment; held together by
 * tests/check/test_preview.py::test_the_articles_page_states_what_to_expect.
 */
const mostRewarded = (paid) => largest(paid, (p) => mean(p.discounted));
const bestByEnvironment = (paid) => largest(paid, (p) => mean(p.environment));

/**
 * Tell whether one behavior's returns are clearly above another's, on the same starts.
 * Mirrors shaperun/check/ranking.py: _clearly_above; held together by
 * tests/check/test_preview.py::test_the_articles_page_states_what_to_expect.
 */
function clearlyAbove(all, more, less) {
  const common = Math.min(more.length, less.length);
  const differences = more.slice(0, common).map((value, i) => value - less[i]);
  const center = mean(differences);
  const squares = sum(differences.map((d) => (d - center) ** 2));
  const error = common > 1 ? Math.sqrt(squares / (common - 1)) / Math.sqrt(common) : 0;
  const means = all.map(mean);
  const spread = Math.max(...means) - Math.min(...means);
  return center > Math.max(DATA.errors * error, DATA.part * spread);
}

const rankedClearlyLower = (paid, one, other) =>
  clearlyAbove(paid.map((p) => p.environment), other.environment, one.environment);

const paidClearlyMore = (paid, one, other) =>
  clearlyAbove(paid.map((p) => p.discounted), one.discounted, other.discounted);

const byReturn = (paid) => [...paid].sort((a, b) => mean(b.discounted) - mean(a.discounted));

/**
 * Behaviors paid clearly more than the environment's best although it ranks them clearly lower.
 * Mirrors shaperun/check/ranking.py: inversions; held together by
 * tests/check/test_preview.py::test_the_articles_page_states_what_to_expect.
 */
function inversions(paid) {
  const top = bestByEnvironment(paid);
  return byReturn(
    paid.filter((p) => rankedClearlyLower(paid, p, top) && paidClearlyMore(paid, p, top)),
  );
}

const areFinite = (paid) =>
  paid.every((p) => [...p.discounted, ...p.shaped].every(Number.isFinite));

/* ---------------------------------------------------------------------------------------------
   Words and numbers.
   ------------------------------------------------------------------------------------------ */

/** Format with thousands separators, a true minus sign and a fixed number of decimals. */
function formatFixed(value, decimals) {
  if (!Number.isFinite(value)) return "not finite";
  if (Math.abs(value) >= 1e8) return value.toExponential(2).replace("-", "−");
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  const text = Math.abs(value).toLocaleString("en", options);
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

/** Format with three significant digits, or all digits before the point. */
function formatNumber(value) {
  if (Math.abs(value) >= 100 || !Number.isFinite(value)) return formatFixed(value, 0);
  return String(Number(value.toPrecision(3)) + 0).replace("-", "−");
}

/** Decimals that show four digits of the largest value; the same for all values of a column. */
function decimalsFor(values) {
  const size = Math.max(...values.map(Math.abs));
  if (!(size > 0) || !Number.isFinite(size)) return 0;
  return Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(size))));
}

/** Most common outcome and its count; the first to occur wins a tie. */
function mostCommonOutcome(episodes) {
  const counts = new Map();
  for (const { outcome } of episodes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return largest([...counts], ([, count]) => count);
}

/** Verdict on a reward: [whether anything is inverted, headline as parts, detail]. */
function verdict(arm, paid) {
  if (!areFinite(paid)) {
    return [true, ["This reward is not finite: the weights are too large."], ""];
  }
  const top = bestByEnvironment(paid), favorite = mostRewarded(paid), inverted = inversions(paid);
  const name = (p) => words(p.behavior.name);
  const pay = (p) => formatNumber(mean(p.discounted));
  const worth = (p) => `${formatNumber(mean(p.environment))} for ${name(p)}`;
  if (inverted.length) {
    const [worst, ...others] = inverted;
    const end = worst === favorite ? `expect it to learn to ${name(worst)}.` : `it may learn to ${name(worst)}.`;
    return [
      true,
      [arm, ` pays ${pay(worst)} to ${name(worst)} and ${pay(top)} to ${name(top)}: `, end],
      `The environment ranks them the other way: ${worth(worst)}, ${worth(top)}.` +
        (others.length ? ` Also paid clearly more than ${name(top)}: ${others.map(name).join(", ")}.` : ""),
    ];
  }
  const most = `Highest paid: ${name(favorite)}, ${pay(favorite)} on average`;
  const detail = top === favorite ? `${most}.` : `${most}; ${name(top)}, ${pay(top)}.`;
  return [false, soundHeadline(arm, paid, top, favorite), haveEqualMeans(paid, "discounted") ? "" : detail];
}

/** Tell whether all behaviors have the same mean, up to rounding. */
function haveEqualMeans(paid, key) {
  const means = paid.map((p) => mean(p[key]));
  return Math.max(...means) - Math.min(...means) <= 1e-12 * Math.max(...means.map(Math.abs));
}

/** Headline where nothing is inverted. */
function soundHeadline(arm, paid, top, favorite) {
  const best = words(top.behavior.name);
  if (haveEqualMeans(paid, "environment")) {
    return ["The environment ranks all behaviors alike, so no ranking can be inverted."];
  }
  if (haveEqualMeans(paid, "discounted")) {
    return [arm, " pays every behavior the same: nothing can be learned from it."];
  }
  if (top === favorite) {
    return [`No behavior is paid more than ${best}, which the environment ranks highest.`];
  }
  if (!rankedClearlyLower(paid, favorite, top)) {
    const name = words(favorite.behavior.name);
    return [`${name} is paid most, and the environment ranks it about as high as ${best}.`];
  }
  return [`No behavior is paid clearly more than ${best}, which the environment ranks highest.`];
}

const MODE_HINTS = {
  log: () => "The learner sees the environment’s reward r; terms are only recorded.",
  add: (f) => `The learner sees r + ${f}S: the weighted terms S on top of the environment’s reward.`,
  replace: (f) =>
    f
      ? "The learner sees (1 − f) r + f S: a transition from the environment’s reward to the weighted terms S."
      : "The learner sees S, the weighted terms, and nothing of the environment’s reward.",
  potential: (f) =>
    `The learner sees r + γ ${f}Φ(s′) − ${f}Φ(s), with the weighted terms as Φ: the best policy stays the same.`,
};

/* ---------------------------------------------------------------------------------------------
   YAML of an arm. Round trip through shaperun/common/yaml.py: read_yaml is held together by
   tests/check/test_preview.py, where Page.check reads it back.
   ------------------------------------------------------------------------------------------ */

const PLAIN = /^(?!(true|false|null|yes|no|on|off|y|n)$)[a-z_][a-z0-9_-]*$/i;
const MAX_LINE = 60; // characters of a mapping on one line

function yamlText(value) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") return String(value).replace(/^(-?\d+)e/, "$1.0e");
  if (Array.isArray(value)) return `[${value.map(yamlText).join(", ")}]`;
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([k, v]) => `${yamlKey(k)}: ${yamlText(v)}`).join(", ")}}`;
  }
  return String(value);
}

const yamlKey = (name) => (PLAIN.test(name) ? name : JSON.stringify(name));

/** Format a mapping on one line, or with one line per entry if it is too wide. */
function yamlMapping(key, entries, indent) {
  const parts = entries.map(([k, v]) => `${yamlKey(k)}: ${yamlText(v)}`);
  const line = `${indent}${key}: {${parts.join(", ")}}`;
  if (line.length <= MAX_LINE) return [line];
  return [`${indent}${key}:`, ...parts.map((part) => `${indent}  ${part}`)];
}

/** Format an arm as in a study file. */
function armYaml(name, settings) {
  const weights = weightedTerms(settings).map((term) => [term.name, settings.weights.get(term.name)]);
  const arm = ARMS.get(settings.from);
  const custom = Object.entries(arm.terms).filter(([term]) => weights.some(([w]) => w === term));
  const schedule = Object.entries(arm.schedule ?? {}).map(([k, v]) => [k === "start" ? "from" : k, v]);
  const indent = "    ";
  return [
    "arms:",
    `  ${yamlKey(name)}:`,
    `${indent}mode: ${settings.mode}`,
    ...(settings.scale === 1 ? [] : [`${indent}scale: ${yamlText(settings.scale)}`]),
    ...(custom.length ? yamlMapping("terms", custom, indent) : []),
    ...(weights.length ? yamlMapping("weights", weights, indent) : []),
    ...(arm.schedule ? yamlMapping("schedule", schedule, indent) : []),
    "",
  ].join("\n");
}

/* ---------------------------------------------------------------------------------------------
   State: the settings of every arm as the user changed them, and the position of the player.
   ------------------------------------------------------------------------------------------ */

/** Settings of an arm as in the study file. */
function originalSettings(arm) {
  const { mode, scale, weights } = ARMS.get(arm);
  return { from: arm, mode, scale, weights: new Map(Object.entries(weights)), progress: 0 };
}

const isShaped = (arm) => ARMS.get(arm).mode !== "log"; // the others have no weights that matter

const state = {
  arm: [...ARMS.keys()].find(isShaped) ?? ARMS.keys().next().value,
  settings: new Map([...ARMS.keys()].map((arm) => [arm, originalSettings(arm)])),
  gamma: DATA.gamma,
  behavior: BEHAVIORS[0],
  episode: 0,
  step: 0,
};

const current = () => state.settings.get(state.arm);
const selectedEpisode = () => state.behavior.episodes[state.episode];

/** Terms that an arm can weight: [{name, column, formula, stateOnly}]. */
function availableTerms(settings) {
  return Object.entries(ARMS.get(settings.from).columns).map(([name, column]) => ({
    name,
    column,
    formula: DATA.terms[column].formula,
    stateOnly: DATA.terms[column].state_only,
  }));
}

/** Map each term to a palette index; the arm's weighted terms come first and differ the most. */
function termColors(settings) {
  const { weights, columns } = ARMS.get(settings.from);
  const weighted = Object.keys(weights).filter((name) => weights[name] !== 0);
  return new Map([...new Set([...weighted, ...Object.keys(columns)])].map((name, i) => [name, i]));
}

/** Terms with a weight, in the order of the weights; a potential has only terms of the state. */
function weightedTerms(settings) {
  const terms = new Map(availableTerms(settings).map((term) => [term.name, term]));
  return [...settings.weights]
    .filter(([name, w]) => w !== 0 && (settings.mode !== "potential" || terms.get(name).stateOnly))
    .map(([name]) => terms.get(name));
}

/** Reward of an arm as the mirrored kernel expects it. */
function rewardOf(settings) {
  const arm = ARMS.get(settings.from);
  return {
    mode: settings.mode,
    scheduled: arm.schedule !== null,
    factor: arm.factor[settings.progress],
    terms: weightedTerms(settings).map((term) => ({
      name: term.name,
      column: term.column,
      weight: settings.scale * settings.weights.get(term.name),
    })),
  };
}

function isChanged(arm) {
  const before = originalSettings(arm), now = state.settings.get(arm);
  const names = new Set([...before.weights.keys(), ...now.weights.keys()]);
  const moved = [...names].some((n) => (before.weights.get(n) ?? 0) !== (now.weights.get(n) ?? 0));
  return moved || ["mode", "scale", "from"].some((key) => before[key] !== now[key]);
}

/* ---------------------------------------------------------------------------------------------
   Controls.
   ------------------------------------------------------------------------------------------ */

const narrow = window.matchMedia("(max-width: 62rem)");

/** Round up to 1, 2 or 5 times a power of 10. */
function roundAbove(size) {
  const unit = 10 ** Math.floor(Math.log10(size));
  return [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= size * (1 - 1e-9));
}

/** Reach of a slider for a value, and a step that is fine compared with both. */
function sliderRange(value) {
  const size = Math.min(Math.abs(value), 1e300);
  const reach = roundAbove(Math.max(1, 2 * size));
  const finest = size ? Math.max(Math.min(reach, size) / 10, reach / 1e5) : reach / 100;
  const step = 10 ** Math.floor(Math.log10(Math.min(reach / 100, finest)) + 1e-9);
  return { reach, step: Number(step.toPrecision(1)) };
}

/** Color a slider up to its value. */
function fillSlider(slider) {
  const low = Number(slider.min), high = Number(slider.max);
  slider.style.setProperty("--value", (slider.valueAsNumber - low) / (high - low));
}

/** Create a slider and a number field for one value; `onChange` is called when it moves. */
function makeControl({ id, label, hint, value, limits, aroundZero, onChange }) {
  const describedBy = `${id}-hint`;
  const slider = make("input", {
    type: "range", id, name: id, class: aroundZero ? "around-zero" : false,
    "aria-describedby": describedBy, autocomplete: "off",
  });
  const field = make("input", {
    type: "number", id: `${id}-number`, step: "any", autocomplete: "off",
    "aria-label": `${label} as a number`, "aria-describedby": describedBy,
  });
  const text = make("p", { class: "hint", id: describedBy }, hint);
  const element = make(
    "div", { class: "row" },
    make("div", {}, make("label", { for: id }, label), text),
    field,
    slider,
  );
  const moveSlider = (v) => {
    if (aroundZero && Math.abs(v) > Number(slider.max || 0)) {
      const { reach, step } = sliderRange(v);
      setAttributes(slider, { min: -reach, max: reach, step });
    }
    slider.value = v;
    fillSlider(slider);
  };
  if (limits) setAttributes(slider, limits);
  if (aroundZero) {
    const { reach, step } = sliderRange(value);
    setAttributes(slider, { min: -reach, max: reach, step });
  }
  let valid = value; // the last valid value while another one is being typed
  const write = (v) => {
    valid = v;
    field.value = v;
    field.removeAttribute("aria-invalid");
  };
  const set = (v) => {
    moveSlider(v);
    write(v);
  };
  slider.addEventListener("input", () => {
    write(slider.valueAsNumber);
    fillSlider(slider);
    onChange(valid);
  });
  field.addEventListener("input", () => {
    const v = field.valueAsNumber;
    const isValid = Number.isFinite(v) && !(limits?.strict && (v < limits.min || v > limits.max));
    setAttribute(field, "aria-invalid", isValid ? null : "true");
    if (!isValid) return;
    valid = v;
    moveSlider(v);
    onChange(v);
  });
  field.addEventListener("change", () => write(valid)); // discards a half-typed number
  set(value);
  return {
    element,
    set,
    setHint: (sentence) => { text.textContent = sentence; },
    disable: (disabled) => { slider.disabled = field.disabled = disabled; },
  };
}

let weightControls = new Map();
let gammaControl, scaleControl, progressControl;

/** Rebuild all controls for the current arm. */
function buildControls() {
  const settings = current();
  const weights = new Map(Object.entries(ARMS.get(settings.from).weights));
  weightControls = new Map();
  const shown = [], folded = [];
  for (const term of availableTerms(settings)) {
    const termControl = makeControl({
      id: `weight-${term.name}`, label: term.name, hint: term.formula, aroundZero: true,
      value: settings.weights.get(term.name) ?? 0,
      onChange: (value) => { settings.weights.set(term.name, value); update(); },
    });
    weightControls.set(term.name, { ...termControl, term });
    (weights.get(term.name) ? shown : folded).push(termControl.element);
  }
  byId("weights").replaceChildren(...shown);
  byId("weights").hidden = shown.length === 0;
  byId("more-weights").replaceChildren(...folded);
  byId("more-title").textContent = shown.length ? "More terms" : "Terms";
  byId("more").hidden = folded.length === 0;
  byId("more").open = shown.length === 0;
  byId("numbers").replaceChildren(...numberControls(settings));
  byId("mode").value = settings.mode;
  byId("from").value = settings.from;
}

/** Controls of γ, the scale and, with a schedule, the training progress. */
function numberControls(settings) {
  gammaControl = makeControl({
    id: "gamma", label: "discount γ", hint: "", value: state.gamma,
    limits: { min: 0, max: 1, step: 0.001, strict: true },
    onChange: (value) => { state.gamma = value; update(); },
  });
  const reset = make("button", { type: "button", id: "gamma-reset" }, `Reset to the learner’s ${DATA.gamma}`);
  reset.addEventListener("click", () => {
    state.gamma = DATA.gamma;
    gammaControl.set(DATA.gamma);
    update();
  });
  gammaControl.element.append(make("p", { id: "gamma-back" }, reset));
  scaleControl = makeControl({
    id: "scale", label: "scale", hint: "Multiplies all weights.", value: settings.scale, aroundZero: true,
    onChange: (value) => { settings.scale = value; update(); },
  });
  progressControl = makeControl({
    id: "progress", label: "training done, %", hint: "", value: settings.progress,
    limits: { min: 0, max: 100, step: 1, strict: true },
    onChange: (value) => { settings.progress = Math.round(value); update(); },
  });
  const scheduled = ARMS.get(settings.from).schedule !== null;
  return [...(scheduled ? [progressControl] : []), gammaControl, scaleControl].map((c) => c.element);
}

/** Update the hints of all controls. */
function updateHints(settings, reward) {
  byId("mode-hint").textContent = MODE_HINTS[settings.mode](reward.scheduled ? "f " : "");
  for (const { term, disable, setHint } of weightControls.values()) {
    const excluded = settings.mode === "potential" && !term.stateOnly;
    disable(excluded);
    setHint(excluded ? "Depends on more than the state, so it cannot be part of a potential." : term.formula);
  }
  const steps = state.gamma < 1 ? formatNumber(1 / (1 - state.gamma)) : "∞";
  gammaControl.setHint(`Effective horizon: about ${steps} steps.`);
  byId("gamma-back").hidden = state.gamma === DATA.gamma;
  progressControl.setHint(`Factor f of the schedule at this point: ${formatNumber(reward.factor)}.`);
  byId("reset").disabled = !isChanged(state.arm);
}

function buildArms() {
  const tabs = [...ARMS.keys()].map((arm) => {
    const radio = make("input", { type: "radio", name: "arm", value: arm, autocomplete: "off" });
    radio.checked = arm === state.arm;
    radio.addEventListener("change", () => {
      state.arm = arm;
      buildControls();
      update();
    });
    return make("label", {}, radio, make("span", { class: "tab" }, arm));
  });
  byId("arms").replaceChildren(...tabs);
  byId("from").replaceChildren(...[...ARMS.keys()].map((arm) => make("option", { value: arm }, arm)));
  byId("from-row").hidden = ARMS.size < 2;
}

function markChangedArms() {
  for (const radio of byId("arms").querySelectorAll("input")) {
    const tab = radio.nextElementSibling;
    tab.replaceChildren(radio.value);
    if (isChanged(radio.value)) {
      tab.append(" •", make("span", { class: "hidden-text" }, " (changed)"));
    }
  }
}

/** Load another arm's reward into the current arm, or its original one. */
function loadReward(arm) {
  state.settings.set(state.arm, originalSettings(arm));
  buildControls();
  update();
}

/* ---------------------------------------------------------------------------------------------
   Ranking table.
   ------------------------------------------------------------------------------------------ */

/** Heading on a narrow screen, data-column, class. */
const COLUMNS = [
  ["discounted shaped return", "discounted", "number main-number"],
  [null, "plot", "plot"],
  ["shaped return", "shaped", "number"],
  ["environment return", "environment", "number"],
  ["outcome", "outcome", ""],
  ["steps", "length", "number"],
];

const tableRows = new Map(); // name of a behavior -> its row

function buildRows() {
  for (const behavior of BEHAVIORS) {
    const button = make("button", { type: "button", class: "name", title: behavior.description },
      words(behavior.name));
    const cells = COLUMNS.map(([label, column, kind]) =>
      make("td", { role: "cell", class: kind, "data-column": column, "data-label": label }));
    const row = make("tr", { role: "row", "data-behavior": behavior.name },
      make("th", { role: "rowheader", scope: "row" }, button, make("span", { class: "marks" })), ...cells);
    row.addEventListener("click", () => {
      selectEpisode(behavior, 0);
      if (narrow.matches) byId("watch").scrollIntoView({ behavior: reducedMotion.matches ? "auto" : "smooth" });
    });
    tableRows.set(behavior.name, row);
    byId("rows").append(row);
  }
}

const cell = (row, column) => row.querySelector(`[data-column="${column}"]`);

function showRanking(paid) {
  const top = bestByEnvironment(paid), finite = areFinite(paid);
  const inverted = new Set(finite ? inversions(paid) : []);
  const span = plotSpan(paid);
  const decimals = {};
  for (const key of ["discounted", "shaped", "environment"]) {
    decimals[key] = decimalsFor(paid.map((p) => mean(p[key])));
  }
  for (const p of paid) {
    const row = tableRows.get(p.behavior.name);
    const marks = [];
    if (p === top) marks.push(make("span", { class: "mark best" }, "★ environment’s best"));
    if (inverted.has(p)) {
      marks.push(make("span", { class: "mark bad" }, `▲ inverted: paid more than ${words(top.behavior.name)}`));
    }
    row.querySelector(".marks").replaceChildren(...marks);
    setAttribute(row, "data-best", p === top);
    setAttribute(row, "data-inverted", inverted.has(p));
    for (const key of ["discounted", "shaped", "environment"]) {
      showFigure(cell(row, key), mean(p[key]), decimals[key]);
    }
    showPlot(cell(row, "plot"), p.discounted, finite ? span : null);
    const [outcome, count] = mostCommonOutcome(p.behavior.episodes), all = p.behavior.episodes.length;
    cell(row, "outcome").textContent = words(outcome) + (count < all ? ` (${count} of ${all})` : "");
    showFigure(cell(row, "length"), mean(p.behavior.episodes.map((e) => e.length)), 0);
  }
  reorder(byReturn(paid).map((p) => tableRows.get(p.behavior.name)));
}

function showFigure(element, value, decimals) {
  element.dataset.value = value;
  element.textContent = formatFixed(value, decimals);
}

/** Range of the plots, which includes 0. */
function plotSpan(paid) {
  const values = [0, ...paid.flatMap((p) => p.discounted)];
  const low = Math.min(...values), high = Math.max(...values);
  return high > low ? [low, high] : [low - 1, high + 1];
}

/** Draw a bar from 0 to the mean and one dot per episode. */
function showPlot(element, values, span) {
  if (!element.firstChild) {
    const dots = values.map(() => make("i", { class: "dot" }));
    const parts = [make("i", { class: "bar" }), make("i", { class: "zero" }), ...dots];
    element.append(make("div", { class: "axis", "aria-hidden": "true" }, ...parts));
  }
  const axis = element.firstChild;
  axis.hidden = span === null;
  if (span === null) return;
  const position = (value) => (100 * (value - span[0])) / (span[1] - span[0]);
  const [bar, zero, ...dots] = axis.children;
  const ends = [position(0), position(mean(values))];
  bar.style.left = `${Math.min(...ends)}%`;
  bar.style.width = `${Math.abs(ends[1] - ends[0])}%`;
  zero.style.left = `${ends[0]}%`;
  dots.forEach((dot, i) => { dot.style.left = `${position(values[i])}%`; });
}

/** Reorder the rows; each slides from its former position. */
function reorder(rows) {
  const body = byId("rows");
  if (rows.every((row, i) => body.children[i] === row)) return;
  const before = new Map(rows.map((row) => [row, row.getBoundingClientRect().top]));
  const focused = document.activeElement;
  for (const row of rows) row.getAnimations().forEach((animation) => animation.cancel());
  body.append(...rows);
  if (body.contains(focused)) focused.focus(); // moving a row removes the focus from it
  if (reducedMotion.matches) return;
  for (const row of rows) {
    const distance = before.get(row) - row.getBoundingClientRect().top;
    if (!distance) continue;
    const frames = [{ transform: `translateY(${distance}px)` }, { transform: "none" }];
    row.animate(frames, { duration: 220, easing: "ease-out" });
  }
}

function showVerdict(paid) {
  const [inverted, headline, detail] = verdict(state.arm, paid);
  byId("verdict").classList.toggle("inverted", inverted);
  // The name of the arm is the first part, if any; the conclusion is the third.
  const parts = headline.map((text, i) => {
    if (i === 0 && headline.length > 1) return make("code", {}, text);
    return i === 2 ? make("strong", {}, text) : text;
  });
  byId("headline").replaceChildren(...parts);
  byId("detail").textContent = detail;
}

/* ---------------------------------------------------------------------------------------------
   Player: the frames of an episode, and the cumulative reward of each term.
   ------------------------------------------------------------------------------------------ */

const DASHES = ["none", "7 3", "2 3", "9 3 2 3"];
const HUES = 7;
const TICK = 80; // milliseconds per frame
const POSITIONS = 60; // cursor positions of an episode without frames

let timer = null;
let curves = []; // of the chart: {name, kind, sums (T + 1,)}

function selectEpisode(behavior, episode) {
  stop();
  state.behavior = behavior;
  state.episode = episode;
  state.step = selectedEpisode().length; // where the sums are the returns
  showPlayer();
  showCurves();
}

function showPlayer() {
  const { behavior } = state, episode = selectedEpisode();
  byId("behavior").value = behavior.name;
  const options = behavior.episodes.map((e, i) =>
    make("option", { value: i }, `${i + 1}: ${words(e.outcome)}, ${formatFixed(e.length, 0)} steps`));
  byId("episode").replaceChildren(...options);
  byId("episode").value = state.episode;
  byId("description").textContent = behavior.description;
  byId("step").max = episode.length;
  for (const [name, row] of tableRows) {
    const selected = name === behavior.name;
    setAttribute(row, "data-selected", selected);
    row.querySelector("button").setAttribute("aria-pressed", String(selected));
  }
  loadFilmstrip(episode.strip);
}

let picture = null; // the filmstrip of the selected episode, once it is decoded

function loadFilmstrip(strip) {
  byId("frame").hidden = strip === null;
  byId("no-frames").hidden = strip !== null;
  picture = null;
  if (strip === null) return;
  setAttributes(byId("frame"), { width: strip.width, height: strip.height });
  const image = new Image();
  image.addEventListener("load", () => {
    if (selectedEpisode().strip !== strip) return;
    picture = image;
    showFrame();
  });
  image.src = strip.image;
}

function showFrame() {
  const { strip, length, outcome } = selectedEpisode();
  const end = state.step === length ? `, ${words(outcome)}` : "";
  const position = `step ${formatFixed(state.step, 0)} of ${formatFixed(length, 0)}${end}`;
  byId("step").value = state.step;
  fillSlider(byId("step"));
  byId("step").setAttribute("aria-valuetext", position);
  byId("back").disabled = state.step === 0;
  byId("forward").disabled = state.step === length;
  if (strip === null) return;
  byId("frame").setAttribute("aria-label", `${words(state.behavior.name)}: ${position}`);
  if (picture === null) return;
  drawFrame(byId("frame").getContext("2d"), picture, strip, state.step, length);
}

function seek(step) {
  state.step = Math.max(0, Math.min(selectedEpisode().length, step));
  showFrame();
  showCursor();
}

function play() {
  const episode = selectedEpisode();
  const every = episode.strip?.every ?? Math.ceil(episode.length / POSITIONS);
  if (state.step === episode.length) seek(0);
  byId("play").textContent = "Pause";
  timer = setInterval(() => {
    seek(state.step + every);
    if (state.step === episode.length) stop();
  }, TICK);
}

function stop() {
  clearInterval(timer);
  timer = null;
  byId("play").textContent = "Play";
}

/** Cumulative sums, from 0 at the start: (T + 1,). */
function cumulativeSums(rewards) {
  const result = new Float64Array(rewards.length + 1);
  rewards.forEach((reward, t) => { result[t + 1] = result[t] + reward; });
  return result;
}

/** Cumulative rewards of an episode: one curve per term, the environment's and the total. */
function episodeCurves(reward, episode, gamma) {
  const share = environmentShare(reward);
  const environment = { name: "environment’s reward", kind: "environment", rewards: episode.envReward.map((r) => share * r) };
  const terms = reward.mode === "log" ? [] : reward.terms;
  const parts = [
    ...terms.map((term) => ({
      name: term.name,
      kind: "term",
      rewards: shaping(reward, episode, gamma, [term]),
    })),
    ...(share ? [environment] : []),
  ];
  const total = { name: "total, as the learner sees it", kind: "total", rewards: shapedRewards(reward, episode, gamma) };
  return [...parts, total].map(({ rewards, ...curve }) => ({ ...curve, sums: cumulativeSums(rewards) }));
}

function makeSvg(tag, attributes = {}, ...children) {
  return setAttributes(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, ...children);
}

/** Create a line of the chart or legend; a term keeps its color and dashes at any weight. */
function makeStroke(curve, tag, attributes) {
  const element = makeSvg(tag, { class: `line ${curve.kind}`, ...attributes });
  if (curve.kind === "term") {
    const index = termColors(current()).get(curve.name);
    element.style.stroke = `var(--c${index % HUES})`;
    element.style.strokeDasharray = DASHES[Math.floor(index / HUES) % DASHES.length];
  }
  return element;
}

/** Round numbers between two values, about `count` of them. */
function ticks(low, high, count) {
  const rough = (high - low) / count, unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * unit).find((n) => n >= rough * (1 - 1e-9));
  const from = Math.ceil(low / step - 1e-9), to = Math.floor(high / step + 1e-9);
  return Array.from({ length: to - from + 1 }, (_, i) => (from + i) * step);
}

let chart = null; // {left, right, x, cursor}: geometry of the chart

const drawable = (value) => Math.abs(value) < 1e300; // differences must not overflow

function showCurves() {
  curves = episodeCurves(rewardOf(current()), selectedEpisode(), state.gamma);
  drawChart();
  buildLegend();
  showFrame();
  showCursor();
}

function drawChart() {
  const box = byId("chart").getBoundingClientRect(), { length } = selectedEpisode();
  const values = curves.flatMap((curve) => [...curve.sums]).filter(drawable);
  let low = 0, high = 0;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (high === low) [low, high] = [-1, 1];
  const yTicks = ticks(low, high, 6), decimals = decimalsFor([yTicks.at(-1) - yTicks[0]]);
  const labels = yTicks.map((tick) => formatFixed(tick, Math.max(0, decimals - 2)));
  const left = 12 + 6.6 * Math.max(...labels.map((label) => label.length));
  const [right, top, bottom] = [box.width - 12, 8, box.height - 34];
  const x = (step) => left + ((right - left) * step) / length;
  const y = (value) => bottom - ((bottom - top) * (value - low)) / (high - low);
  const grid = yTicks.flatMap((tick, i) => [
    makeSvg("line", { class: tick === 0 ? "base" : "grid", x1: left, x2: right, y1: y(tick), y2: y(tick) }),
    makeSvg("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, labels[i]),
  ]);
  const xTicks = ticks(0, length, Math.max(2, Math.min(6, (right - left) / 80))).filter(Number.isInteger);
  const anchor = (at) => (at === left ? "start" : at > right - 20 ? "end" : "middle");
  const steps = xTicks.map((tick) =>
    makeSvg("text", { x: x(tick), y: bottom + 16, "text-anchor": anchor(x(tick)) }, formatFixed(tick, 0)));
  const caption = makeSvg("text", { x: (left + right) / 2, y: bottom + 30, "text-anchor": "middle" }, "steps");
  const cursor = makeSvg("line", { class: "cursor", y1: top, y2: bottom });
  const lines = curves.map((curve) => makeStroke(curve, "polyline", { points: points(curve.sums, x, y, right - left) }));
  const svg = makeSvg("svg", { "aria-hidden": "true" }, ...grid, ...steps, caption, ...lines, cursor);
  byId("chart").replaceChildren(svg);
  chart = { left, right, x, cursor };
}

/** Points of a curve, at most about one per pixel. */
function points(values, x, y, pixels) {
  const every = Math.max(1, Math.floor(values.length / Math.max(1, pixels)));
  const chosen = [];
  for (let step = 0; step < values.length; step++) {
    const shown = step % every === 0 || step === values.length - 1;
    if (shown && drawable(values[step])) {
      chosen.push(`${x(step).toFixed(1)},${y(values[step]).toFixed(1)}`);
    }
  }
  return chosen.join(" ");
}

function buildLegend() {
  const rows = curves.map((curve) => {
    const sample = makeSvg("svg", { "aria-hidden": "true" }, makeStroke(curve, "path", { d: "M1 5H27" }));
    return make("tr", {}, make("td", {}, sample), make("th", { scope: "row" }, curve.name), make("td"));
  });
  const caption = make("caption", { id: "legend-title" });
  byId("legend").replaceChildren(make("table", {}, caption, make("tbody", {}, ...rows)));
}

/** Move the cursor, and show the values under it. */
function showCursor() {
  const { step } = state;
  setAttributes(chart.cursor, { x1: chart.x(step), x2: chart.x(step) });
  byId("legend").querySelector("caption").textContent =
    `Cumulative reward at step ${formatFixed(step, 0)} of ${formatFixed(selectedEpisode().length, 0)}`;
  const values = curves.map((curve) => curve.sums[step]);
  const decimals = Math.min(3, decimalsFor(curves.map((curve) => curve.sums.at(-1))));
  [...byId("legend").querySelectorAll("tr")].forEach((row, i) => {
    showFigure(row.lastElementChild, values[i], decimals);
  });
}

/* ---------------------------------------------------------------------------------------------
   Start.
   ------------------------------------------------------------------------------------------ */

/** Redraw everything that depends on the state. */
function update() {
  const settings = current(), reward = rewardOf(settings);
  const paid = behaviorReturns(reward, BEHAVIORS, state.gamma);
  updateHints(settings, reward);
  markChangedArms();
  showVerdict(paid);
  showRanking(paid);
  showCurves();
  byId("yaml").textContent = armYaml(state.arm, settings);
  byId("copied").textContent = "";
}

async function copyYaml() {
  const text = byId("yaml").textContent;
  try {
    await navigator.clipboard.writeText(text);
    byId("copied").textContent = "Copied.";
  } catch { // clipboard access denied
    getSelection().selectAllChildren(byId("yaml"));
    byId("copied").textContent = "Selected; press Ctrl+C or ⌘C to copy.";
  }
}

function addListeners() {
  byId("mode").addEventListener("change", (event) => {
    current().mode = event.target.value;
    update();
  });
  byId("from").addEventListener("change", (event) => loadReward(event.target.value));
  byId("reset").addEventListener("click", () => loadReward(state.arm));
  byId("copy").addEventListener("click", copyYaml);
  byId("behavior").addEventListener("change", (event) =>
    selectEpisode(BEHAVIORS.find((b) => b.name === event.target.value), 0));
  byId("episode").addEventListener("change", (event) => selectEpisode(state.behavior, Number(event.target.value)));
  byId("step").addEventListener("input", (event) => {
    stop();
    seek(event.target.valueAsNumber);
  });
  byId("play").addEventListener("click", () => (timer === null ? play() : stop()));
  for (const [id, by] of [["back", -1], ["forward", 1]]) {
    byId(id).addEventListener("click", () => {
      stop();
      seek(state.step + by);
    });
  }
  for (const kind of ["pointerdown", "pointermove"]) {
    byId("chart").addEventListener(kind, (event) => {
      if (!event.buttons) return;
      const x = event.clientX - byId("chart").getBoundingClientRect().left;
      stop();
      seek(Math.round(((x - chart.left) / (chart.right - chart.left)) * selectedEpisode().length));
    });
  }
  window.addEventListener("resize", showCurves);
}

function start() {
  const counts = BEHAVIORS.map((b) => b.episodes.length);
  document.title = `${DATA.study} · shaperun preview`;
  byId("title").textContent = DATA.study;
  byId("subtitle").textContent =
    `Returns of scripted behaviors under each reward, before training. ${DATA.environment}, ` +
    `${BEHAVIORS.length} behaviors, ${Math.max(...counts)} episodes each.`;
  byId("ranking-note").textContent =
    "Means over episodes; dots are single episodes. Inverted: paid clearly more than the environment’s " +
    `best behavior although the environment ranks it clearly lower; clearly: by ${DATA.errors} standard ` +
    `errors and ${formatNumber(100 * DATA.part)}% of the spread of all means.`;
  byId("behavior").replaceChildren(
    ...BEHAVIORS.map((b) => make("option", { value: b.name }, words(b.name))));
  buildArms();
  buildControls();
  buildRows();
  const paid = behaviorReturns(rewardOf(current()), BEHAVIORS, state.gamma);
  selectEpisode(mostRewarded(paid).behavior, 0);
  addListeners();
  update();
}

unpackEpisodes().then(start);

"use strict";

const $ = (id) => document.getElementById(id);
const frames = [...document.querySelectorAll(".frame")];
const buttons = [...document.querySelectorAll(".choice")];
const KEYS = { ArrowLeft: "left", a: "left", ArrowRight: "right", b: "right" };
// Seconds that clips may drift apart; each correction is a small jump.
const DRIFT = 0.08;
// Milliseconds until one may go on without what does not load; some browsers tell of no error.
const PATIENCE = 20000;

let rater = "";
let current = null; // the question on the page
let previous = null; // the id of what was voted on before it
let shownAt = 0;
let busy = false;
let paused = false;
const skipped = new Set(); // ids that this page is not to be asked again

// ------------------------------------------------ talking to the server

async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Your votes so far are saved; try again.");
  }
  const told = await response.json();
  if (!response.ok) throw new Error(told.error);
  return told;
}

// One question at a time: a second key while an answer is under way would vote unseen.
async function go(path, body) {
  if (busy) return;
  busy = true;
  try {
    const told = await ask(path, body);
    $("problem").hidden = true;
    show(told);
  } catch (error) {
    $("problem").textContent = error.message;
    $("problem").hidden = false;
  } finally {
    busy = false;
  }
}

const who = () => `rater=${encodeURIComponent(rater)}`;
const without = () => `skipped=${[...skipped].join(",")}`;
const next = () => go(`api/next?${who()}&${without()}`);

function back() {
  if (previous) go(`api/again?${who()}&item=${previous}`);
}

function vote(side) {
  if (!current || buttons[0].disabled) return;
  const seconds = (performance.now() - shownAt) / 1000;
  go(`api/vote?${without()}`, { rater, item: current.id, side, seconds });
}

function skip() {
  if (busy || !current || $("skip").hidden) return;
  skipped.add(current.id);
  next();
}

// ------------------------------------------------ showing a question

function show(told) {
  current = told.item;
  previous = told.previous;
  enlarge(-1);
  paused = false;
  document.activeElement.blur(); // else Space would press the button again
  $("welcome").hidden = true;
  $("thanks").hidden = Boolean(current);
  $("compare").hidden = !current;
  $("left").hidden = told.done >= told.total;
  $("review").hidden = !previous;
  $("skip").hidden = true;
  frames.forEach((frame) => frame.replaceChildren());
  if (!current) return;
  $("instruction").textContent = current.instruction;
  $("ask").textContent = told.ask;
  $("progress").max = told.total;
  $("progress").value = told.done;
  $("count").textContent = `${told.done} of ${told.total}`;
  $("back").disabled = !previous;
  for (const button of buttons) {
    button.disabled = true;
    button.classList.toggle("chosen", button.dataset.side === current.chosen);
  }
  fill(current);
}

// Nobody can vote before everything is there to be seen.
async function fill(question) {
  const offerToSkip = () => question === current && ($("skip").hidden = false);
  const waiting = setTimeout(offerToSkip, PATIENCE);
  const loading = frames.map((frame) => {
    const { slot } = frame.dataset;
    const media = question.media[slot] === "video" ? clip() : new Image();
    const ready = new Promise((resolve, reject) => {
      // A clip without a width is one of which only the sound can be played.
      const seen = () => (sizeOf(media)[0] ? resolve() : reject());
      for (const event of ["load", "canplaythrough", "playing"]) media.addEventListener(event, seen);
      media.addEventListener("error", reject);
    });
    media.src = `media/${question.id}/${slot}?${who()}`;
    media.alt = "";
    frame.replaceChildren(media);
    return ready.catch(() => {
      const sorry = document.createElement("p");
      sorry.textContent = "This browser cannot show it.";
      frame.replaceChildren(sorry);
      offerToSkip();
      throw new Error();
    });
  });
  const done = await Promise.allSettled(loading);
  clearTimeout(waiting);
  if (question !== current || done.some((one) => one.status === "rejected")) return;
  $("skip").hidden = true;
  arrange();
  restart();
  shownAt = performance.now();
  for (const button of buttons) button.disabled = false;
}

const sizeOf = (media) =>
  media instanceof Image
    ? [media.naturalWidth, media.naturalHeight]
    : [media.videoWidth, media.videoHeight];

// Where a phone has room for them depends on the shape; tiny pictures are enlarged in crisp pixels.
function arrange() {
  const shown = [...document.querySelectorAll(".frame > img, .frame > video")];
  const wide = shown.every((media) => sizeOf(media)[0] >= sizeOf(media)[1]);
  $("panels").classList.toggle("wide", wide);
  for (const media of shown) {
    const [w, h] = sizeOf(media);
    const scale = Math.min(media.clientWidth / w, media.clientHeight / h);
    media.classList.toggle("crisp", scale >= 2 && Math.max(w, h) < 256);
  }
}

// ------------------------------------------------ clips, in step

const clips = () => [...document.querySelectorAll(".frame > video")];

function clip() {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.autoplay = true; // without it, phones do not even load
  // All begin anew when the last has ended; until then the shorter ones hold their last frame.
  video.addEventListener("ended", () => clips().every((one) => one.ended) && restart());
  // While all stand still only the end of a seek tells that one is elsewhere.
  for (const moved of ["timeupdate", "seeked"]) video.addEventListener(moved, align);
  return video;
}

function restart() {
  for (const video of clips()) video.currentTime = 0;
  if (!paused) for (const video of clips()) video.play().catch(() => {});
}

// The longest leads: it is the last to end.
function align() {
  const [lead, ...others] = clips().sort((a, b) => b.duration - a.duration);
  for (const other of others) {
    const apart = Math.abs(other.currentTime - Math.min(lead.currentTime, other.duration));
    if (!other.ended && !other.seeking && apart > DRIFT) other.currentTime = lead.currentTime;
  }
}

function toggle() {
  paused = !paused;
  for (const video of clips()) {
    if (paused) video.pause();
    else if (!video.ended) video.play().catch(() => {});
  }
}

// ------------------------------------------------ hands

// One figure over the whole window, or, at -1 or when it is there already, none.
function enlarge(index) {
  frames.forEach((frame, i) => {
    const figure = frame.parentElement;
    figure.classList.toggle("large", i === index && !figure.classList.contains("large"));
  });
  arrange();
}

frames.forEach((frame, i) => frame.addEventListener("click", () => enlarge(i)));
buttons.forEach((button) => button.addEventListener("click", () => vote(button.dataset.side)));
$("skip").addEventListener("click", skip);
$("back").addEventListener("click", back);
$("review").addEventListener("click", back);
window.addEventListener("resize", arrange);

document.addEventListener("keydown", (event) => {
  if (event.target === $("name") || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.tagName === "BUTTON") return; // presses it
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key in KEYS) vote(KEYS[key]);
  else if (key === "s") skip();
  else if ("123".includes(key)) enlarge(Number(key) - 1);
  else if (key === "Escape") enlarge(-1);
  else if (key === "Backspace") back();
  else if (key === " ") toggle();
  else return;
  event.preventDefault();
});

$("welcome").addEventListener("submit", (event) => {
  event.preventDefault();
  rater = $("name").value;
  remember(rater);
  next();
});

// A browser may keep nothing, in private windows for one.
function remember(name) {
  try {
    localStorage.setItem("rater", name);
  } catch {}
}

function remembered() {
  try {
    return localStorage.getItem("rater") || "";
  } catch {
    return "";
  }
}

$("name").value = new URLSearchParams(location.search).get("rater") || remembered();
$("welcome").hidden = false;
$("name").focus();

"use strict";
document.documentElement.classList.add("live");
document.addEventListener("DOMContentLoaded", () => {
  const { questionnaire, group } = document.body.dataset;
  const slot = ["attrlab", questionnaire, group].join("-");
  const start = document.getElementById("start");
  const end = document.getElementById("end");
  const questions = [...document.querySelectorAll("form.question")];
  let state = fresh();
  let kept = true;
  let saved = false;
  let since = 0;

  function fresh() {
    return { version: 1, questionnaire, group: Number(group), participant: "", started: "", finished: "", answers: [] };
  }

  function keep() {
    // A page opened from a file may be refused a store; the answers then last until it is closed.
    try {
      localStorage.setItem(slot, JSON.stringify(state));
    } catch {
      kept = false;
    }
    document.body.classList.toggle("unkept", !kept);
  }

  function restore() {
    try {
      const found = JSON.parse(localStorage.getItem(slot));
      if (found && found.questionnaire === questionnaire && Array.isArray(found.answers)) state = found;
    } catch { /* no store, or not ours: start anew */ }
  }

  function show(focus) {
    const done = state.answers.length;
    const now = !state.participant ? start : questions[done] || end;
    for (const step of [start, ...questions, end]) step.classList.toggle("now", step === now);
    const far = document.getElementById("far");
    far.textContent = `${done} of ${questions.length}`;
    far.classList.toggle("now", now !== start);
    document.querySelector("progress").value = done;
    if (now === end) document.getElementById("copy").value = answers();
    scrollTo(0, 0);
    if (focus) now.querySelector("[tabindex]").focus({ preventScroll: true });
    since = performance.now();
  }

  function answers() {
    return JSON.stringify(state, null, 1) + "\n";
  }

  function begin(event) {
    event.preventDefault();
    state.participant = start.elements.participant.value.trim();
    state.started = new Date().toISOString();
    keep();
    show(true);
  }

  function next(event) {
    event.preventDefault();
    const form = event.target;
    const given = new FormData(form);
    const confidence = given.get("confidence");
    state.answers.push({
      item: form.dataset.item,
      answer: given.get("answer"),
      confidence: confidence === null ? null : Number(confidence),
      seconds: Math.round((performance.now() - since) / 100) / 10,
    });
    if (state.answers.length === questions.length) state.finished = new Date().toISOString();
    keep();
    show(true);
  }

  function save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([answers()], { type: "application/json" }));
    link.download = `answers-group-${group}-${state.participant.replace(/[^\w.-]+/g, "_")}.json`;
    link.click();
    saved = true;
  }

  function anew() {
    if (!confirm(saved ? "Delete these answers from the browser?" : "These answers are not saved yet. Delete them?")) return;
    state = fresh();
    saved = false;
    for (const form of [start, ...questions]) form.reset();
    keep();
    show(true);
  }

  start.addEventListener("submit", begin);
  for (const form of questions) form.addEventListener("submit", next);
  document.getElementById("save").addEventListener("click", save);
  document.getElementById("anew").addEventListener("click", anew);
  addEventListener("beforeunload", (event) => {
    if (!kept && !saved && state.answers.length) event.preventDefault();
  });
  restore();
  keep();
  show(false);
});

"use strict";

/* Data and functions that the pages of `preview` and `ask` share. */

// Parsed as JSON because a JavaScript literal would lose an arm called __proto__.
const DATA = JSON.parse(document.getElementById("data").textContent);

const byId = (id) => document.getElementById(id);
const words = (name) => name.replaceAll("_", " ");
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const reducedMotion = window.matchMedia("(prefers-reduced-motion: reduce)");

/** Create an element. Text from the data only ever becomes text nodes or attributes. */
function make(tag, attributes = {}, ...children) {
  return setAttributes(document.createElement(tag), attributes, ...children);
}

function setAttributes(element, attributes, ...children) {
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children);
  return element;
}

/** Set an attribute, or remove it where the value is false or null. */
function setAttribute(element, name, value) {
  if (value === false || value === null) element.removeAttribute(name);
  else element.setAttribute(name, value === true ? "" : value);
}

/** Draw the frame of a filmstrip for a step: one frame per `every` steps, and one of the end. */
function drawFrame(context, image, strip, step, length) {
  const { width, height, columns, count, every } = strip;
  const index = step >= length ? count - 1 : Math.min(count - 1, Math.floor(step / every));
  const x = (index % columns) * width, y = Math.floor(index / columns) * height;
  context.drawImage(image, x, y, width, height, 0, 0, width, height);
}

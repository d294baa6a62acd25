// A picture with its segments: fills, outlines, names.
import { eachRun } from "/page/masks.js";

const MOST_PIXELS = 1600; // a side, of what is shown

export function scaled(width, height) {
  const scale = Math.min(1, MOST_PIXELS / Math.max(width, height));
  return [Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale))];
}

// The index of the segment at every pixel, -1 where there is none: small ones over large ones.
export function ownersOf(segments, shown, width, height) {
  const owners = new Int16Array(width * height).fill(-1);
  const size = i => Math.round(Math.log2(segments[i].area));
  const order = [...shown].sort((a, b) => size(b) - size(a) || segments[a].score - segments[b].score);
  for (const i of order) {
    eachRun(segments[i].segmentation, width, height, (x, top, bottom) => {
      for (let y = top; y < bottom; y++) owners[y * width + x] = i;
    });
  }
  return owners;
}

// Draws all that is shown, or in light; with `opacity` from 0 to 1, and with or without names.
export function draw(canvas, picture, segments, owners, shown, lit, { opacity, names }) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, width, height);
  if (!owners) return;
  const image = context.getImageData(0, 0, width, height), data = image.data;
  const colors = segments.map(x => [1, 3, 5].map(k => parseInt(x.color.slice(k, k + 2), 16)));
  const strong = Math.min(1, 2 * opacity); // of outlines, which are paler only below one half
  const thick = Math.max(1, Math.round(Math.sqrt(width * height) / 500));
  for (let y = 0, p = 0; y < height; y++) {
    for (let x = 0; x < width; x++, p++) {
      const owner = owners[p];
      const inLight = lit === null || lit.has(owner);
      if (owner < 0 || !inLight) {
        if (lit !== null) for (let k = 0; k < 3; k++) data[4 * p + k] *= 0.55;
        continue;
      }
      const edge = x < thick || y < thick || x + thick >= width || y + thick >= height ||
        owners[p - thick] !== owner || owners[p + thick] !== owner ||
        owners[p - thick * width] !== owner || owners[p + thick * width] !== owner;
      const alpha = edge ? strong : opacity;
      const grey = 0.3 * data[4 * p] + 0.59 * data[4 * p + 1] + 0.11 * data[4 * p + 2];
      for (let k = 0; k < 3; k++) {
        const below = data[4 * p + k] + strong * (grey - data[4 * p + k]) / 2;
        data[4 * p + k] = below + alpha * (colors[owner][k] - below);
      }
    }
  }
  context.putImageData(image, 0, 0);
  if (names) write(context, segments, owners, lit === null ? shown : shown.filter(i => lit.has(i)), canvas);
}

// Writes names into the largest objects first, each where it hides neither them nor other names.
function write(context, segments, owners, shown, { width, height, clientWidth }) {
  const across = clientWidth || 1000, points = across < 500 ? 11 : 13;
  const size = Math.round(Math.min(width / 14, points * Math.max(1, width / across)));
  context.font = `600 ${size}px system-ui, "Liberation Sans", sans-serif`;
  context.textBaseline = "middle";
  const taken = [];
  for (const i of [...shown].sort((a, b) => segments[b].area - segments[a].area)) {
    const { class: text, color, bbox, area, segmentation } = segments[i];
    const w = context.measureText(text).width + size, h = 1.5 * size;
    const scale = width / segmentation.size[1];
    const box = bbox.map(v => v * scale);
    if (box[2] < 0.8 * w || box[3] < h || w * h > 1.5 * area * scale * scale) continue;
    const place = centre(owners, i, box, width, height);
    if (!place) continue;
    const left = Math.min(Math.max(0, place[0] - w / 2), width - w);
    const top = Math.min(Math.max(0, place[1] - h / 2), height - h);
    if (taken.some(o => left < o[0] + o[2] && o[0] < left + w && top < o[1] + o[3] && o[1] < top + h)) continue;
    taken.push([left, top, w, h]);
    const [r, g, b] = [1, 3, 5].map(k => parseInt(color.slice(k, k + 2), 16));
    context.fillStyle = color;
    context.beginPath();
    context.roundRect(left, top, w, h, size / 3);
    context.fill();
    context.fillStyle = 0.3 * r + 0.59 * g + 0.11 * b > 140 ? "#000" : "#fff";
    context.fillText(text, left + size / 2, top + h / 2);
  }
}

// The middle of the longest horizontal run that is seen of a segment, of some rows.
function centre(owners, index, [left, top, w, h], width, height) {
  let best = null, longest = 0;
  for (let k = 1; k < 12; k++) {
    const y = Math.min(height - 1, Math.floor(top + h * k / 12));
    let start = null;
    for (let x = Math.floor(left); x <= Math.min(width, left + w + 1); x++) {
      const own = x < width && owners[y * width + x] === index;
      if (own && start === null) start = x;
      if (!own && start !== null) {
        const length = (x - start) * (1 - Math.abs(k - 6) / 12);
        if (length > longest) { longest = length; best = [(start + x) / 2, y]; }
        start = null;
      }
    }
  }
  return best;
}

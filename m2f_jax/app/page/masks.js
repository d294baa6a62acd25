// COCO's run-length encodings, and what is made of them: maps to draw, and PNG files.

// The ends of the runs, down the columns, of compressed counts (rleFrString of pycocotools).
export function runEnds(counts) {
  const lengths = [], ends = [];
  let sum = 0;
  for (let at = 0; at < counts.length;) {
    let value = 0, shift = 0, byte;
    do {
      byte = counts.charCodeAt(at++) - 48;
      value += (byte & 31) * 2 ** shift;
      shift += 5;
    } while (byte & 32);
    if (byte & 16) value -= 2 ** shift;
    if (lengths.length > 2) value += lengths[lengths.length - 2];
    lengths.push(value);
    ends.push(sum += value);
  }
  return ends;
}

// Calls `paint(x, top, bottom)` for each run of the mask in a map of `width` x `height`, which
// may be smaller than the mask: each of its pixels is the one in the middle of what it covers.
export function eachRun({ size: [rows, columns], counts }, width, height, paint) {
  const ends = runEnds(counts);
  let run = 0;
  for (let x = 0; x < width; x++) {
    const start = Math.floor((x + 0.5) * columns / width) * rows;
    while (run > 0 && (ends[run - 1] > start)) run--;
    while (run < ends.length && ends[run] <= start) run++;
    const row = at => Math.min(height, Math.max(0, Math.ceil((at - start) * height / rows - 0.5)));
    for (let i = run; i < ends.length && (i ? ends[i - 1] : 0) < start + rows; i++) {
      if (i % 2) {
        const top = row(Math.max(ends[i - 1], start)), bottom = row(Math.min(ends[i], start + rows));
        if (bottom > top) paint(x, top, bottom);
      }
    }
  }
}

const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ -1) >>> 0;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}

function big(value) {
  return Uint8Array.of(value >>> 24, value >>> 16, value >>> 8, value);
}

function little(...pairs) {
  return Uint8Array.from(pairs.flatMap(([value, bytes]) =>
    Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 255)));
}

// A PNG of `channels` (1: grey, 3: RGB) bytes a pixel.
export async function png(width, height, channels, pixels) {
  const row = width * channels, raw = new Uint8Array((row + 1) * height);
  for (let y = 0; y < height; y++) raw.set(pixels.subarray(y * row, (y + 1) * row), y * (row + 1) + 1);
  const stream = new Blob([raw]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(stream).arrayBuffer());
  const chunk = (kind, content) => {
    const body = joined([new TextEncoder().encode(kind), content]);
    return joined([big(content.length), body, big(crc32(body))]);
  };
  const header = joined([big(width), big(height), Uint8Array.of(8, channels === 3 ? 2 : 0, 0, 0, 0)]);
  return joined([Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10),
    chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array())]);
}

// The masks' pixels, 255 inside; or with `values`, the number of each mask, as R + 256 G + 65536 B.
export function painted(masks, values = null) {
  const [height, width] = masks[0].size, channels = values ? 3 : 1;
  const pixels = new Uint8Array(width * height * channels);
  masks.forEach((mask, i) => eachRun(mask, width, height, (x, top, bottom) => {
    for (let y = top; y < bottom; y++) {
      const at = (y * width + x) * channels;
      if (!values) pixels[at] = 255;
      else for (let k = 0; k < 3; k++) pixels[at + k] = values[i] >>> (8 * k);
    }
  }));
  return png(width, height, channels, pixels);
}

// A zip of files as they are, [name, bytes] each.
export function zip(files) {
  const parts = [], index = [];
  let at = 0;
  for (const [name, bytes] of files) {
    const path = new TextEncoder().encode(name);
    // Version 2.0, names in UTF-8, stored, 1 January 1980.
    const facts = little([20, 2], [0x800, 2], [0, 2], [0, 2], [33, 2], [crc32(bytes), 4],
      [bytes.length, 4], [bytes.length, 4], [path.length, 2], [0, 2]);
    index.push(little([0x02014b50, 4], [20, 2]), facts, little([0, 2], [0, 2], [0, 2], [0, 4], [at, 4]), path);
    const local = [little([0x04034b50, 4]), facts, path, bytes];
    parts.push(...local);
    at += local.reduce((sum, part) => sum + part.length, 0);
  }
  const table = joined(index);
  const end = little([0x06054b50, 4], [0, 2], [0, 2], [files.length, 2], [files.length, 2],
    [table.length, 4], [at, 4], [0, 2]);
  return joined([...parts, table, end]);
}

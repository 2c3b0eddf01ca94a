// Moves the overlays' opacity, and compares a clicked pixel with all others. The page is whole without it.
const bar = document.getElementById("opacity");
const shown = document.getElementById("opacity-shown");
bar.closest(".control").hidden = false;
bar.addEventListener("input", () => {
  document.documentElement.style.setProperty("--overlay", bar.value / 100);
  shown.textContent = bar.value + " %";
});

const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

// exp(−½‖g_i − g_j‖²) of cell i and every cell j, where g is the colour over its sigma and, if there are any, the features over theirs.
function affinity(picture, features, sigmaRgb, sigmaFeature, i) {
  const { colours, cells } = picture;
  const depth = features.length / cells;
  return Float32Array.from({ length: cells }, (_, j) => {
    let sum = 0;
    for (let c = 0; c < 3 && sigmaRgb > 0; c++) sum += ((colours[3 * i + c] - colours[3 * j + c]) / (255 * sigmaRgb)) ** 2;
    for (let d = 0; d < depth; d++) sum += ((features[depth * i + d] - features[depth * j + d]) / (127 * sigmaFeature)) ** 2;
    return Math.exp(-0.5 * sum);
  });
}

// Which share of the map lies on cells of the class of cell i.
function sameClass(map, truth, i) {
  let same = 0, all = 0;
  map.forEach((a, j) => {
    if (j === i || truth[j] === 255) return;
    all += a;
    if (truth[j] === truth[i]) same += a;
  });
  return truth[i] === 255 || !all ? "" : (100 * same / all).toFixed(0) + " % on its class";
}

function paint(map, columns, hue) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = map.length / columns;
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(canvas.width, canvas.height);
  map.forEach((a, j) => pixels.data.set([...hue, Math.round(255 * a)], 4 * j));
  context.putImageData(pixels, 0, 0);
  return canvas.toDataURL();
}

for (const element of document.querySelectorAll(".alike")) {
  const data = element.dataset;
  const columns = Number(data.columns), rows = Number(data.rows);
  const picture = { colours: bytes(data.colours), cells: rows * columns };
  const truth = bytes(data.truth), names = JSON.parse(data.names);
  const hue = data.hue.match(/\d+/g).map(Number);
  const maps = [...element.querySelectorAll("img.alike-map")].map((image) => {
    const features = new Int8Array(bytes(image.dataset.features).buffer);
    return { image, features, share: image.closest("figure").querySelector("figcaption span") };
  });
  const pad = element.querySelector(".alike-pad");
  const under = pad.closest("figure").querySelector("figcaption span");
  let row = Number(data.row), column = Number(data.column);

  const show = () => {
    const i = row * columns + column;
    under.textContent = names[truth[i]] ?? "unlabelled";
    for (const cross of element.querySelectorAll(".cross")) {
      cross.setAttribute("x", (column + 0.5) / columns * 100 + "%");
      cross.setAttribute("y", (row + 0.5) / rows * 100 + "%");
    }
    for (const { image, features, share } of maps) {
      const sigma = features.length ? data.deep : data.shallow;
      const map = affinity(picture, features, Number(sigma), Number(data.feature), i);
      image.src = paint(map, columns, hue);
      share.textContent = sameClass(map, truth, i);
    }
  };
  const move = (y, x) => {
    row = Math.max(0, Math.min(rows - 1, y));
    column = Math.max(0, Math.min(columns - 1, x));
    show();
  };
  pad.disabled = false;
  pad.addEventListener("click", (event) => {
    if (!event.detail) return; // Enter and Space on the button
    const box = pad.getBoundingClientRect();
    move(Math.floor((event.clientY - box.top) / box.height * rows), Math.floor((event.clientX - box.left) / box.width * columns));
  });
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    move(row + step[0], column + step[1]);
  });
}

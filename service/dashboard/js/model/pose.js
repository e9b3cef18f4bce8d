// Where a volume's head is: the rigid map from the reference's millimetres to the volume's, from what ingest reports. Pure.

const IDENTITY = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
const DEGREE = Math.PI / 180;

/** The product of two 4 × 4 matrices (16 numbers, row by row). */
export function product(a, b) {
  return a.map((_, i) => [0, 1, 2, 3].reduce((sum, k) => sum + a[4 * Math.floor(i / 4) + k] * b[4 * k + (i % 4)], 0));
}

/** The inverse of a rigid map. */
export function inverse(m) {
  const turned = [m[0], m[4], m[8], 0, m[1], m[5], m[9], 0, m[2], m[6], m[10], 0, 0, 0, 0, 1];
  for (const row of [0, 4, 8]) turned[row + 3] = -(turned[row] * m[3] + turned[row + 1] * m[7] + turned[row + 2] * m[11]);
  return turned;
}

/** A volume's motion from its six figures: rotations Rx Ry Rz with the signs of SPM, about the scanner's origin. */
export function motion({ translationMm: t, rotationDeg }) {
  const [[cx, sx], [cy, sy], [cz, sz]] = rotationDeg.map((deg) => [Math.cos(deg * DEGREE), Math.sin(deg * DEGREE)]);
  const rx = [1, 0, 0, 0, 0, cx, sx, 0, 0, -sx, cx, 0, 0, 0, 0, 1];
  const ry = [cy, 0, sy, 0, 0, 1, 0, 0, -sy, 0, cy, 0, 0, 0, 0, 1];
  const rz = [cz, sz, 0, 0, -sz, cz, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1];
  const turned = product(product(rx, ry), rz);
  return [...turned.slice(0, 3), t[0], ...turned.slice(4, 7), t[1], ...turned.slice(8, 11), t[2], 0, 0, 0, 1];
}

/** From the reference to a volume of the run; to the run as it was registered while the volume's own motion is not known. */
export function referenceToVolume(run, index) {
  const registration = run.registration;
  const toRun = registration?.reference_to_run ?? IDENTITY;
  const [then, now] = [run.volumes[registration?.index ?? 0], run.volumes[index]];
  if (!then?.rotationDeg || !now?.rotationDeg) return toRun;
  return product(product(motion(now), inverse(motion(then))), toRun);
}

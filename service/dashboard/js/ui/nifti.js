// The little that the page needs of a NIfTI-1 header, as the gateway writes it: where the voxels are. Pure.

import { inverse, product } from "../model/pose.js";

const ROWS = 280; // srow_x, srow_y, srow_z
const EXTRA = [0, 0, 0, 1];

/** @returns {{shape: number[], affine: number[][], slope: number}} */
export function header(buffer) {
  const view = new DataView(buffer);
  return {
    shape: [42, 44, 46].map((at) => view.getInt16(at, true)),
    affine: [...[0, 1, 2].map((r) => [0, 1, 2, 3].map((c) => view.getFloat32(ROWS + 16 * r + 4 * c, true))), EXTRA],
    slope: view.getFloat32(112, true),
  };
}

/** The same image in the reference's space; `toVolume` is the rigid map from there (16 numbers, row by row). */
export function moved(buffer, toVolume) {
  const placed = product(inverse(toVolume), header(buffer).affine.flat());
  const copy = buffer.slice(0);
  const view = new DataView(copy);
  for (let i = 0; i < 12; i++) view.setFloat32(ROWS + 4 * i, placed[i], true);
  return copy;
}

/** The voxel of an image that holds a point; null outside of it. */
export function voxelAt({ shape, affine }, mm) {
  const m = inverse3(affine);
  const d = [0, 1, 2].map((i) => mm[i] - affine[i][3]);
  const voxel = m.map((row) => Math.round(row[0] * d[0] + row[1] * d[1] + row[2] * d[2]) + 0);
  return voxel.every((i, axis) => i >= 0 && i < shape[axis]) ? voxel : null;
}

function inverse3(a) {
  const [[p, q, r], [s, t, u], [v, w, x]] = a;
  const det = p * (t * x - u * w) - q * (s * x - u * v) + r * (s * w - t * v);
  return [
    [t * x - u * w, r * w - q * x, q * u - r * t],
    [u * v - s * x, p * x - r * v, r * s - p * u],
    [s * w - t * v, q * v - p * w, p * t - q * s],
  ].map((row) => row.map((value) => value / det));
}

// The brain's pure half under `node --test`: poses, NIfTI headers and regions, against what Python has for them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { referenceToVolume } from "../../service/dashboard/js/model/pose.js";
import { emptySession, reduce } from "../../service/dashboard/js/model/store.js";
import { header, moved, voxelAt } from "../../service/dashboard/js/ui/nifti.js";

const CASES = JSON.parse(readFileSync(`${process.env.MINDSIGHT_CASES}/brain.json`, "utf8"));
const close = (a, b, tolerance) => a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) < tolerance, `${a} is not ${b}`));

test("a volume's pose is ingest's, before and after its run was registered", () => {
  for (const { run, index, expected } of CASES.poses) close(referenceToVolume(run, index), expected, 1e-9);
});

test("a volume is moved into the reference's space by its header, and its voxels are found there", () => {
  const { nifti, pose, affine, shape, voxels } = CASES.image;
  const bytes = Buffer.from(nifti, "base64");
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  const placed = header(moved(buffer, pose));
  close(placed.affine.flat(), affine, 1e-4);
  assert.deepEqual(placed.shape, shape);
  for (const { mm, voxel } of voxels) assert.deepEqual(voxelAt(placed, mm), voxel);
});

test("a region has its values by volume, and every event is kept, decoded or not", () => {
  const session = CASES.messages.reduce(reduce, emptySession());
  assert.deepEqual(Object.keys(session.rois), ["left"]);
  const run = session.runs[1];
  assert.deepEqual(run.rois.left.map((row) => row && row.percent), [null, null, 1.5]);
  assert.deepEqual(run.events, [{ onsetS: 1, durationS: 2 }, { onsetS: 5, durationS: 2 }]);
  assert.equal(session.space.n_voxels, 9);
});

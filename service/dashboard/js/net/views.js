// Volumes, masks, betas and voxels from the gateway. What never changes comes from the browser's cache.

import { request } from "./api.js";

const session = (name) => `/v1/sessions/${encodeURIComponent(name)}`;
const buffer = async (path) => (await request(path)).arrayBuffer();

/** A volume as it was received: NIfTI, in the coordinates of its run. */
export const fetchVolume = (name, run, index) => buffer(`${session(name)}/runs/${run}/volumes/${index}/view`);

/** A reference by its digest. */
export const fetchReference = (digest) => buffer(`/v1/views/${digest}`);

/** The outline of a mask by its digest. */
export const fetchOutline = (digest) => buffer(`/v1/views/${digest}?kind=outline`);

/** A trial's beta at a stage, in percent of the reference's signal. */
export const fetchBeta = (name, run, trial, stage) =>
  buffer(`${session(name)}/runs/${run}/trials/${trial}/beta?stage=${stage}`);

/**
 * @returns {Promise<{in_mask: boolean, data: number[], fit: number[], error: ?number[], excluded: number[]}>} one voxel so far;
 *   `trial` (or null) is the trial whose design is fitted
 */
export async function fetchVoxel(name, run, [x, y, z], trial) {
  const query = new URLSearchParams({ x, y, z, ...(trial === null ? {} : { trial }) });
  return (await request(`${session(name)}/runs/${run}/voxel?${query}`)).json();
}

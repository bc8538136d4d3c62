// The last minutes of rates and latencies, made out of one snapshot after the other.

/** Samples that are kept; one comes every two seconds. */
const KEPT = 150;

export const samples = [];
let last = null;

/** Takes a snapshot. Counters that went back mean that the program was started anew. */
export function sample(status) {
  const calls = between(last?.latency?.calls, status.latency?.calls);
  const telemetry = between(last?.latency?.telemetry, status.latency?.telemetry);
  samples.push({
    time: Date.now(),
    rates: [status.rates?.requests_per_second, status.rates?.telemetry_per_second, status.rates?.delivered_per_second],
    calls,
    telemetry,
  });
  if (samples.length > KEPT) samples.shift();
  last = status;
}

export function forget() {
  samples.length = 0;
  last = null;
}

/** Half and 99 % of what was measured between two snapshots; null where there was nothing. */
function between(before, after) {
  if (!before || !after || after.count <= before.count) return [null, null];
  const buckets = after.buckets.map((bucket, at) => ({
    le: bucket.le,
    count: bucket.count - (before.buckets[at]?.count ?? 0),
  }));
  const total = after.count - before.count;
  return [0.5, 0.99].map((share) => percentile(buckets, total, share));
}

function percentile(buckets, total, share) {
  const rank = total * share;
  let lower = 0;
  let below = 0;
  for (const { le, count } of buckets) {
    if (count >= rank && count > below) return lower + ((le - lower) * (rank - below)) / (count - below);
    [lower, below] = [le, count];
  }
  return lower;
}

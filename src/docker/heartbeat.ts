/**
 * Seconds between heartbeats on a connection through the engine that may be silent for long. This is far below a
 * minute, the shortest silence limit that proxies commonly have. docker-socket-proxy cuts after ten minutes.
 */
export const HEARTBEAT_S = 20;

/**
 * The sleeping process outlives the command by a moment, and must not hold its outputs open: the engine ends their
 * stream only when no process can write to it any more.
 */
const BEATING = `
while sleep "$0" </dev/null >/dev/null 2>&1; do printf '\\000' >&2; done & beat=$!
"$@"
status=$?
kill "$beat"
exit "$status"
`;

/** Returns a command line that also writes NUL bytes to stderr as heartbeats. */
export function beating(argv: readonly string[], seconds: number): string[] {
  return ['sh', '-c', BEATING, String(seconds), ...argv];
}

/** Removes the heartbeats from stderr. */
export function withoutBeats(data: Buffer): Buffer {
  return data.includes(0) ? Buffer.from(data.filter((byte) => byte !== 0)) : data;
}

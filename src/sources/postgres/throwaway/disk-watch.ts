import { LifeboatError } from '../../../base/errors.ts';
import { execStream } from '../../../docker/exec.ts';
import { HEARTBEAT_S } from '../../../docker/heartbeat.ts';
import type { AgentContext } from '../server/tools.ts';

/** The exit status of the script when too little space remains. */
const FULL = 3;

/**
 * Ends when the disk of a directory has less than 1 GiB free, or on a small disk, less than half of the space that was
 * free at the start. The columns are those of POSIX df.
 */
export const DISK_SCRIPT = `free() { set -- $(df -Pk "$1" | tail -n 1); echo "$4"; }
reserve=$(( $(free "$0") / 2 )); [ "$reserve" -lt 1048576 ] || reserve=1048576
while now=$(free "$0") && [ -n "$now" ]; do [ "$now" -ge "$reserve" ] || exit ${FULL}; sleep 0.5; done`;

/**
 * Returns a signal that aborts with PG_NO_SPACE before a helper fills the disk of the Docker engine.
 * The command runs as root, so a program of the dump cannot end it. It ends with the helper.
 *
 * @param options `directory`: on that disk; `hint`: what to do about the full disk
 */
export async function watchDisk(
  { engine }: AgentContext,
  { container, directory, hint, signal }: { container: string; directory: string; hint: string; signal: AbortSignal },
): Promise<AbortSignal> {
  const full = new AbortController();
  const argv = ['sh', '-c', DISK_SCRIPT, directory];
  const watch = await execStream(engine, container, { argv, heartbeat: HEARTBEAT_S, check: false, signal });
  watch.stdout.on('error', () => undefined).resume();
  watch.done.then(
    ({ exitCode }) => {
      if (exitCode !== FULL) return;
      full.abort(
        new LifeboatError('PG_NO_SPACE', 'the disk of the Docker engine has no room for the restored data', {
          hint,
        }),
      );
    },
    // The helper was removed, or the run was stopped.
    () => undefined,
  );
  return full.signal;
}

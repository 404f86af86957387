import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { redact } from '../base/redact.ts';
import type { PointInTime } from '../plan/values/point-in-time.ts';
import type { PointResult } from '../restore/point/restore-point.ts';
import { type Call, print } from './call.ts';

/** `lifeboat restore SOURCE --at TIME`: recovers a database server to a point in time. */
export async function restorePoint(call: Call, restore: (call: Call) => Promise<number>): Promise<number> {
  const { app, operands, options, io, json } = call;
  const [source, extra] = operands as [string, string | undefined];
  if (extra !== undefined) {
    throw new LifeboatError('USAGE', '--at takes a source, and no snapshot', {
      hint: `Write: restore ${extra} --at "2026-11-20 14:30:00+01" --to-volume NAME`,
    });
  }
  const { toVolume, database } = options;
  const target = options.at as PointInTime | 'latest';
  const say = (line: string) => (json ? undefined : io.err(`${redact(line)}\n`));
  if (toVolume === undefined) {
    if (typeof database !== 'string') {
      throw new LifeboatError('USAGE', '--at needs --to-volume or --database', {
        hint: 'Recover the server into a new volume, or one database into the server in use: --database NAME --to-database NEW.',
      });
    }
    // A restore from a snapshot of that moment has all the checks and options of a restore.
    const snapshot = await app.snapshotOfPoint({ source, target, database, signal: io.signal, say });
    const { at: _, ...rest } = options;
    return restore({ ...call, operands: [snapshot, source], options: rest });
  }
  if (typeof toVolume !== 'string') throw new LifeboatError('USAGE', '--to-volume needs a name');
  const result = await app.restoreToPoint({ source, target, toVolume, signal: io.signal, say });
  print(call, result, () => lines(result).join('\n'));
  return EXIT.done;
}

function lines({ source, volume, recovered, target, dataDirectory, segments, durationMs }: PointResult): string[] {
  const { at, stopped, lastCommit } = recovered;
  const where = at === 'target' ? `to ${target}` : 'to the end of the stored write-ahead log';
  return [
    `Recovered ${source} ${where} in ${(durationMs / 1000).toFixed(1)}s, from ${segments} segments of WAL`,
    ...(stopped === undefined ? [] : [`  stopped ${stopped}`]),
    ...(lastCommit === undefined ? [] : [`  the last transaction in it was committed at ${lastCommit}`]),
    `The data is in the volume ${volume}. To use it, stop the service and change its volume in the Compose file:`,
    '    volumes:',
    `      - ${volume}:${dataDirectory}`,
    'and declare the volume at the top level:',
    `    volumes: { ${volume}: { external: true } }`,
  ];
}

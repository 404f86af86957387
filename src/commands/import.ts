import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { formatBytes, formatWhen, plural } from '../report/format.ts';
import { createProgress } from '../report/progress.ts';
import { type Call, print } from './call.ts';

/** `lifeboat import` */
export async function importBackup(call: Call): Promise<number> {
  const { app, io, operands, options, json } = call;
  const [file, source] = operands as [string, string];
  if (file === '-' && io.stdin.isTTY) {
    throw new LifeboatError('USAGE', 'stdin is a terminal, not a backup', {
      hint: 'Redirect a file to stdin: `docker compose exec -T lifeboat lifeboat import - SOURCE --at TIME < FILE`.',
    });
  }
  const display = createProgress(io.terminal, { paint: io.paint });
  const at = options.at instanceof Date ? { at: options.at } : {};
  const database = typeof options.database === 'string' ? { database: options.database } : {};
  const strip = typeof options.strip === 'number' ? options.strip : 0;
  const request = { file, source, stdin: io.stdin, strip, ...database, ...at, signal: io.signal };
  const report = await app.import(request, json ? [] : [display]).finally(() => display.close());
  print(call, report, () => {
    const made = formatWhen(new Date(report.at), { now: new Date() });
    const held = `${plural(report.files, 'file')}, ${formatBytes(report.bytes)}, ${formatBytes(report.newBytes)} new`;
    return [
      `Imported ${report.file} as snapshot ${report.snapshot} of ${source}: ${held}`,
      `  made ${made}${options.at ? '' : ' (the time of the file; set another one with --at)'}`,
      ...report.warnings.map((warning) => `  ${warning}`),
      ...(report.error ? [`  ${report.error.message} (${report.error.code})`] : []),
      `  pinned until \`lifeboat unpin ${report.snapshot}\`. An import is never the latest snapshot: restore it by its id.`,
    ].join('\n');
  });
  return report.status === 'partial' ? EXIT.partial : EXIT.done;
}

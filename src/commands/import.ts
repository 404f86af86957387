import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { formatBytes, plural } from '../report/format.ts';
import { createProgress } from '../report/progress.ts';
import { type Call, print } from './call.ts';

/** `lifeboat import` */
export async function importBackup(call: Call): Promise<number> {
  const { app, io, operands, options, json } = call;
  const [file, source] = operands as [string, string];
  if (file === '-' && io.stdin.isTTY) {
    throw new LifeboatError('USAGE', 'a backup does not come from a terminal', {
      hint: 'Send a file: `docker compose exec -T lifeboat lifeboat import - SOURCE --at TIME < FILE`.',
    });
  }
  const display = createProgress(io.terminal, { paint: io.paint });
  const at = options.at instanceof Date ? { at: options.at } : {};
  const strip = typeof options.strip === 'number' ? options.strip : 0;
  const request = { file, source, stdin: io.stdin, strip, ...at, signal: io.signal };
  const report = await app.import(request, json ? [] : [display]).finally(() => display.close());
  print(call, report, () => {
    const held = `${plural(report.files, 'file')}, ${formatBytes(report.bytes)}, ${formatBytes(report.newBytes)} new`;
    return [
      `Imported ${report.file} as snapshot ${report.snapshot} of ${source}: ${held}`,
      `  made ${report.at}${options.at ? '' : ', by the time of the file; --at says otherwise'}`,
      ...report.warnings.map((warning) => `  ${warning}`),
      ...(report.error ? [`  ${report.error.message} (${report.error.code})`] : []),
      `  pinned: no retention removes it, \`lifeboat unpin ${report.snapshot}\` lets it go. It is never the latest: restore it by its id.`,
    ].join('\n');
  });
  return report.status === 'partial' ? EXIT.partial : EXIT.done;
}

import { LifeboatError } from '../base/errors.ts';
import { EXIT } from '../base/exit.ts';
import { redact } from '../base/redact.ts';
import { openFileTarget, stdoutTarget } from '../export/target.ts';
import { formatBytes, formatWhen, plural } from '../report/format.ts';
import { createProgress } from '../report/terminal/progress.ts';
import { CONFIG, SPOOL } from '../run/mounts.ts';
import type { ArchiveFormat } from '../store/archive/archive-writer.ts';
import { type Call, print } from './call.ts';
import { texts } from './consent.ts';

/** `lifeboat export` */
export async function exportArchive(call: Call): Promise<number> {
  const { app, io, operands, options, json } = call;
  const [snapshot, source, path] = operands as [string, string, string?];
  const file = options.to as string | undefined;
  const format = formatOf(options.format as ArchiveFormat | undefined, file);
  if (json && file === undefined) {
    throw new LifeboatError('USAGE', 'the archive and JSON cannot both go to stdout', {
      hint: 'Write the archive with --to FILE, or leave out --json.',
    });
  }
  if (options.overwrite === true && file === undefined) {
    throw new LifeboatError('USAGE', '--overwrite needs --to', { hint: 'Leave it out, or add --to FILE.' });
  }
  // Checked before anything is fetched.
  const stdout = file === undefined ? stdoutTarget(io.stdout) : undefined;
  const { name: repository } = app.own.destination;
  // With --from, the export reads another repository.
  const repositories = [...new Set([repository, app.destination.name])].filter((name) => name.startsWith('/'));
  const place = repository.startsWith('/') ? { repository } : {};
  const kept = [
    { directory: SPOOL, holds: 'its spool' },
    { directory: CONFIG, holds: 'the files of the source config' },
    ...repositories.map((directory) => ({ directory, holds: 'the backups' })),
  ];
  const display = createProgress(io.terminal, { paint: io.paint });
  const say = (line: string) => {
    if (!json) display.write(`${redact(line)}\n`);
  };
  const open = async () => {
    if (stdout !== undefined || file === undefined) return stdout ?? stdoutTarget(io.stdout);
    const overwrite = options.overwrite === true;
    return openFileTarget({ file, overwrite, mounts: app.self.facts.mounts, kept, ...place });
  };
  const reading = { ...texts(options, 'from', 'project'), unsigned: options.unsigned === true };
  const request = { snapshot, source, format, ...reading, open, say, signal: io.signal };
  const report = await app
    .export({ ...request, ...(path === undefined ? {} : { path }) }, json ? [] : [display])
    .finally(() => display.close());
  for (const warning of report.warnings) say(`  ${warning}`);
  const where = file === undefined ? '' : ` to ${file}`;
  const held = `${plural(report.files, 'file')}, ${formatBytes(report.bytes)}`;
  say(`Exported ${held}${where} (${formatBytes(report.size)} ${format}), all verified against their recorded hashes`);
  if (json && file !== undefined) print(call, 'export', { ...report, file }, () => '');
  return EXIT.done;
}

function formatOf(asked: ArchiveFormat | undefined, file: string | undefined): ArchiveFormat {
  if (asked !== undefined) return asked;
  if (file !== undefined && /\.(tgz|tar\.\w+)$/i.test(file)) {
    throw new LifeboatError('USAGE', `--to ${file}: an export is a zip or an uncompressed tar`, {
      hint: 'End the name with .zip or .tar, or compress the output: `… export --format tar … | zstd > media.tar.zst`.',
    });
  }
  return file !== undefined && /\.tar$/i.test(file) ? 'tar' : 'zip';
}

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
  print(call, 'import', report, () => {
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

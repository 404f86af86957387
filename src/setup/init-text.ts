import type { Paint } from '../report/paint.ts';
import type { InitResult } from './init.ts';

/** Returns the result of `lifeboat init` for people. */
export function renderInit(result: InitResult, paint: Paint): string {
  const { files, labels, leftOut, byHand, notes, sources } = result;
  const rows = labels.flatMap(({ service, labels: own }) =>
    Object.entries(own).map(([key, value]) => `  ${service}: ${key}: ${JSON.stringify(value)}`),
  );
  return [
    ...(rows.length > 0 ? ['Labels', ...rows, `Sources: ${sources.join(', ')}`, ''] : []),
    ...(leftOut.length > 0
      ? ['Without a label', ...leftOut.map(({ service, what, why }) => `  ${service}: ${what} ${why}`), '']
      : []),
    ...notes.map((note) => `Note: ${note}`),
    ...files.flatMap(({ patch }) => [colour(patch, paint)]),
    ...byHand.flatMap(({ service, lines }) => [
      lines[0] === 'labels:'
        ? `Lifeboat cannot add these labels to ${service} by itself. Add them by hand:`
        : 'Lifeboat cannot add its own service by itself. Add it by hand:',
      ...lines.map((line) => `    ${line}`),
      '',
    ]),
    ...ending(result),
  ].join('\n');
}

function colour(patch: string, paint: Paint): string {
  return patch
    .split('\n')
    .filter((line) => !/^(Index: |===)/.test(line))
    .map((line) => (/^\+(?!\+\+)/.test(line) ? paint.good(line) : /^-(?!--)/.test(line) ? paint.bad(line) : line))
    .join('\n');
}

function ending({ files, byHand, next, written, labels }: InitResult): string[] {
  if (files.length === 0) return byHand.length > 0 ? [] : ['There is nothing to add.'];
  const changed = labels.filter((one) => Object.keys(one.labels).length > 0).map(({ service }) => service);
  const restart =
    changed.length === 0
      ? []
      : [`Compose recreates the services whose labels change, so they restart once: ${changed.join(', ')}.`];
  if (!written) return [...restart, 'Nothing is written yet. To write it, run the same command with --yes.'];
  return [
    `Wrote ${files.map(({ name }) => name).join(', ')}. Continue with:`,
    ...next.map((command) => `    ${command}`),
    ...restart,
  ];
}

import type { Parsed } from '../values/fields.ts';
import { url } from '../values/values.ts';

/** Which sources have a check of their own: all of them by the ping key of a project, or the named ones. */
export type SourceChecks =
  | { readonly kind: 'all' }
  | { readonly kind: 'named'; readonly checks: readonly { readonly source: string; readonly url: string }[] };

/** Parses `all`, or lines `source=URL`. A line that begins with `#` is a comment. */
export function parseSourceChecks(text: string): Parsed<SourceChecks> {
  if (text.trim().toLowerCase() === 'all') return { value: { kind: 'all' } };
  const hint = 'write all, or lines like db.postgres=https://hc-ping.com/<uuid>';
  const checks: { source: string; url: string }[] = [];
  const lines = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  for (const [i, line] of lines.entries()) {
    const [, source, address] = /^([a-z0-9][\w.-]*)\s*=\s*(\S+)$/.exec(line) ?? [];
    if (source === undefined || address === undefined) return { problem: `has a wrong line, number ${i + 1}`, hint };
    const parsed = url({ path: true })(address);
    if ('problem' in parsed) return { problem: `has a line whose address ${parsed.problem}, number ${i + 1}`, hint };
    if (checks.some((one) => one.source === source)) return { problem: `names a source twice, in line ${i + 1}`, hint };
    checks.push({ source, url: parsed.value });
  }
  return checks.length > 0 ? { value: { kind: 'named', checks } } : { problem: 'names no source', hint };
}

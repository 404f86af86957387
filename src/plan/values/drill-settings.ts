import type { Fields, Parsed, Values } from './fields.ts';
import { parseSchedule } from './schedule.ts';
import { duration, oneOf, percent } from './values.ts';

const PROCESSORS = /^\d{1,4}(?:\.\d{1,2})?$/;

/** Parses a number of processors: 0.1 to 1024. */
function processors(text: string): Parsed<number> {
  const value = PROCESSORS.test(text) ? Number(text) : 0;
  if (value >= 0.1 && value <= 1024) return { value };
  return { problem: 'is not a number of processors from 0.1 to 1024', hint: 'write 2 or 0.5' };
}

const MEMORY = /^(\d{1,6})\s?([MG])(?:i?B)?$/i;

/** Parses an amount of memory, 256 MiB to 1 TiB, as bytes. */
function memory(text: string): Parsed<number> {
  const [, number, unit] = MEMORY.exec(text) ?? [];
  const value = Number(number ?? 0) * 1024 ** (unit?.toUpperCase() === 'G' ? 3 : 2);
  if (value >= 256 * 1024 ** 2 && value <= 1024 ** 4) return { value };
  return { problem: 'is not an amount of memory from 256MiB to 1TiB', hint: 'write 2GiB or 512MiB' };
}

/** The settings of drills, a part of the table of all settings. */
export const DRILL_SETTINGS = {
  LIFEBOAT_DRILL: {
    parse: oneOf(['schedule', 'every', 'off']),
    form: '`schedule`, `every` or `off`',
    doc: 'when Lifeboat runs [drills](drills.md), which restore snapshots into throwaway containers and compare them with the record. `schedule`: as `LIFEBOAT_DRILL_SCHEDULE` says. `every`: after the first backup of each day. `off`: only with `lifeboat drill`',
    default: 'schedule',
  },
  LIFEBOAT_DRILL_SCHEDULE: {
    parse: parseSchedule,
    form: 'schedule',
    doc: 'when to run a drill of all sources',
    default: '0 6 * * 6',
  },
  LIFEBOAT_DRILL_SHARE: {
    parse: percent,
    form: 'percentage',
    doc: 'how much of the files of a volume one drill restores. Each drill restores another share. Default: everything, up to 20 GiB for each volume',
  },
  LIFEBOAT_DRILL_CPUS: {
    parse: processors,
    form: 'number of processors, such as `1` or `0.5`',
    doc: 'how many processors a restored server, and the smoke test of an application, may use at the same time. Default: all but one, or all of a host with less than three',
  },
  LIFEBOAT_DRILL_MEMORY: {
    parse: memory,
    form: 'amount of memory, such as `2GiB` or `512MiB`',
    doc: 'how much memory each container of a drill may use: a restored server, the programs that restore into it, and the smoke test of an application. With `--stack`, the restored servers share it. A drill that needs more proves nothing',
    default: '2GiB',
  },
  LIFEBOAT_DRILL_TIMEOUT: {
    parse: duration({ min: '1m', max: '7d' }),
    form: 'duration',
    doc: 'how long a drill may take. After this time, it ends as failed',
    default: '12h',
  },
  LIFEBOAT_DRILL_ASSERT_TIMEOUT: {
    parse: duration({ min: '1s', max: '1d' }),
    form: 'duration',
    doc: 'how long one `lifeboat.drill.assert` may take. After this time, it counts as failed',
    default: '1m',
  },
} as const satisfies Fields;

/** The settings of drills, validated and typed. Times in milliseconds. */
export interface DrillSettings {
  readonly mode: 'schedule' | 'every' | 'off';
  readonly schedule: string;
  /** above 0, up to 1 */
  readonly share?: number;
  /** processors that restored servers may use; absent: as the host allows */
  readonly cpus?: number;
  /** bytes of memory that each container of a drill may use */
  readonly memory: number;
  readonly timeoutMs: number;
  readonly assertTimeoutMs: number;
}

export function toDrillSettings(values: Values<typeof DRILL_SETTINGS>): DrillSettings {
  const { LIFEBOAT_DRILL_SHARE: share, LIFEBOAT_DRILL_CPUS: cpus } = values;
  return {
    mode: values.LIFEBOAT_DRILL,
    schedule: values.LIFEBOAT_DRILL_SCHEDULE,
    ...(share === undefined ? {} : { share }),
    ...(cpus === undefined ? {} : { cpus }),
    memory: values.LIFEBOAT_DRILL_MEMORY,
    timeoutMs: values.LIFEBOAT_DRILL_TIMEOUT,
    assertTimeoutMs: values.LIFEBOAT_DRILL_ASSERT_TIMEOUT,
  };
}

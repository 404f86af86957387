import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LifeboatError } from '../../src/base/errors.ts';
import { buildPlan, type PlanInput } from '../../src/plan/job.ts';
import { LABELS, ownLabels, readLabels } from '../../src/plan/labels.ts';
import type { ContainerFacts, Mount } from '../../src/plan/model.ts';
import { SETTINGS } from '../../src/plan/setting-table.ts';
import { parseSettings } from '../../src/plan/settings.ts';
import { visible } from '../../src/plan/values/fields.ts';
import { parseSchedule } from '../../src/plan/values/schedule.ts';

const readFile = (path: string): string => {
  throw Object.assign(new Error(path), { code: 'ENOENT' });
};
const defaults = parseSettings({}, readFile);

const hostile = fc.constantFrom(
  '',
  ' ',
  '-f/tmp/pwn',
  '--help',
  '$(reboot)',
  '`id`',
  '../../etc/passwd',
  '/',
  '..',
  'a\nb',
  'a\0b',
  '\u001b[2J',
  '\u202ecod',
  '\ud800',
  'a=b',
  "'",
  '"',
  '\\',
  ',',
  '__proto__',
  'constructor',
  'é'.repeat(32),
  'x'.repeat(255),
  '9'.repeat(30),
  '0-9999999999 * * * *',
  '*/0 * * * *',
  '* * * constructor *',
  '* * __proto__ * tostring',
  '{"a":[',
  '["sh"',
);
const good = fc.constantFrom(
  'true',
  'false',
  'app',
  'a,b',
  '7d',
  '@daily',
  '0 3 * * *',
  '15m',
  'media',
  '/app/media',
  '**/*.tmp',
  'UTC',
);
const value = fc.oneof(good, hostile, fc.string({ maxLength: 20 }));

/** An existing key, a similar one, or any text. */
function keysLike(names: readonly string[], prefix: string): fc.Arbitrary<string> {
  const known = fc.constantFrom(...names);
  const misspelt = fc.tuple(known, fc.nat(40), fc.string({ maxLength: 1 })).map(([name, at, extra]) => {
    return name.slice(0, at) + extra + name.slice(at + 1);
  });
  return fc.oneof(
    { weight: 4, arbitrary: known },
    misspelt,
    value.map((text) => prefix + text),
    value,
  );
}

const labels = fc.dictionary(keysLike(Object.keys(LABELS), 'lifeboat.'), value, { maxKeys: 8 });
const name = fc.oneof(fc.constantFrom('db', 'web', 'Web', 'db.main'), hostile);
const mount: fc.Arbitrary<Mount> = fc.record(
  {
    type: fc.constantFrom('volume', 'bind', 'tmpfs', 'npipe'),
    name: fc.oneof(fc.constantFrom('shop_media', 'shop_db', 'media'), hostile),
    source: fc.oneof(fc.constantFrom('/srv/media', '/srv', '/var/run/docker.sock'), hostile),
    destination: fc.oneof(fc.constantFrom('/app/media', '/var/lib/postgresql/data', '/data'), hostile),
    writable: fc.boolean(),
  },
  { requiredKeys: ['type', 'source', 'destination', 'writable'] },
);
const container: fc.Arbitrary<ContainerFacts> = fc.record({
  id: fc.uuid(),
  name,
  project: fc.oneof(fc.constantFrom('shop', 'blog', ''), hostile),
  service: name,
  imageId: fc.constant('sha256:image'),
  running: fc.boolean(),
  labels,
  imageLabels: fc.oneof(fc.constant({}), labels),
  env: fc.dictionary(fc.constantFrom('POSTGRES_USER', 'POSTGRES_DB_FILE', 'PGPORT', 'PGDATA', '__proto__'), value),
  mounts: fc.array(mount, { maxLength: 5 }),
});
const input: fc.Arbitrary<PlanInput> = fc.record({
  containers: fc.array(container, { maxLength: 5 }),
  project: fc.constantFrom('shop', 'blog'),
  settings: fc.constantFrom(defaults, { ...defaults, scope: { kind: 'all' as const } }),
  agentMounts: fc.array(mount, { maxLength: 2 }),
  configFiles: fc.boolean(),
});

const SOURCE_NAME = /^(config|([a-z0-9][a-z0-9_-]{0,62}\.){1,2}[a-z0-9][a-z0-9_-]{0,62})$/;
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/u;

/** Returns the value of a label, also of one whose row ends in `.*`. */
function labelValue(values: object, key: string): unknown {
  const entries = Object.entries(values).flatMap(([row, value]): [string, unknown][] =>
    row.endsWith('.*')
      ? Object.entries((value ?? {}) as object).map(([name, one]) => [row.slice(0, -1) + name, one])
      : [[row, value]],
  );
  return entries.find(([one]) => one === key)?.[1];
}

/** Tests that any labels, containers and settings lead to a plan or to reported mistakes, with `numRuns` of each. */
export function fuzz(numRuns: number): void {
  describe('whatever the containers are', () => {
    test('the plan has safe, unique names and readable problems', () => {
      fc.assert(
        fc.property(input, (given) => {
          const plan = buildPlan(given);
          const names = plan.sources.map((source) => source.name);
          for (const each of names) expect(each).toMatch(SOURCE_NAME);
          expect(new Set(names).size).toBe(names.length);
          expect(names).toEqual([...names].sort());
          for (const source of plan.sources) expect(parseSchedule(source.schedule)).toEqual({ value: source.schedule });
          for (const { subject, message, hint } of plan.problems) {
            expect(`${subject} ${message} ${hint ?? ''}`).not.toMatch(UNPRINTABLE);
            expect(message).not.toBe('');
          }
          if (names.every((each) => each === 'config')) expect(plan.problems).not.toEqual([]);
        }),
        { numRuns },
      );
    });

    test('each label has a value, or a mistake that names it', () => {
      fc.assert(
        fc.property(labels, labels, (own, inherited) => {
          const given = ownLabels(own, inherited);
          const { values, mistakes } = readLabels(given, false);
          for (const key of given.keys()) {
            const isRead = labelValue(values, key) !== undefined;
            const named = mistakes.filter((mistake) => mistake.key === key);
            expect({ key, isRead, count: named.length }).toEqual({ key, isRead, count: isRead ? 0 : 1 });
          }
          for (const [key, text] of Object.entries(own)) {
            if (key.startsWith('lifeboat.') && inherited[key] !== text) expect(given.get(key)).toBe(text);
          }
        }),
        { numRuns },
      );
    });

    test('each mistake in a label becomes a problem of its service', () => {
      fc.assert(
        fc.property(container, (given) => {
          const one = { ...given, project: 'shop', running: true };
          const { mistakes } = readLabels(ownLabels(one.labels, one.imageLabels), false);
          const { problems } = buildPlan({
            containers: [one],
            project: 'shop',
            settings: defaults,
            configFiles: false,
          });
          const messages = problems.map(({ message }) => message);
          for (const { message } of mistakes) {
            expect(messages.some((each) => each.startsWith(visible(message)))).toBe(true);
          }
        }),
        { numRuns },
      );
    });
  });

  describe('whatever the environment is', () => {
    const names = Object.keys(SETTINGS).flatMap((each) => [each, `${each}_FILE`]);
    const environment = fc.dictionary(keysLike(names, 'LIFEBOAT_'), value, { maxKeys: 8 });

    test('settings are valid, or one error reports every mistake', () => {
      fc.assert(
        fc.property(environment, (env) => {
          let message = '';
          try {
            const settings = parseSettings(env, readFile);
            expect(parseSchedule(settings.schedule)).toEqual({ value: settings.schedule });
            expect(settings.destination).toMatch(/^\/[^/]/);
          } catch (error) {
            if (!(error instanceof LifeboatError)) throw error;
            message = error.message;
          }
          for (const key of Object.keys(env)) {
            const isKnown = Object.hasOwn(SETTINGS, key.replace(/_FILE$/, ''));
            const isUnknown = !isKnown && key.startsWith('LIFEBOAT_');
            if (isUnknown && !UNPRINTABLE.test(key)) expect(message).toContain(key.slice(0, 40));
          }
        }),
        { numRuns },
      );
    });
  });
}

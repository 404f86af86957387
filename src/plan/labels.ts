import { parseCommand, parseHealth } from './command.ts';
import { parseKeep } from './retention.ts';
import { parseAssert } from './values/drill-assert.ts';
import { type Fields, type Mistake, mistake, quote, readFields, type Values } from './values/fields.ts';
import { parseSchedule } from './values/schedule.ts';
import { hasLikePrefix, suggest } from './values/suggest.ts';
import { boolean, booleanOrList, duration, globs, list, matching, patterns } from './values/values.ts';

const POSTGRES = ['lifeboat.postgres'] as const;
const VOLUMES = ['lifeboat.volumes'] as const;
const HOOKS = [
  'lifeboat.exec.pre',
  'lifeboat.exec.post',
  'lifeboat.exec.restored',
  'lifeboat.health',
  'lifeboat.drill.health',
] as const;
const ASSERTS = ['lifeboat.drill.assert', 'lifeboat.drill.assert.*'] as const;
const EITHER = ['lifeboat.postgres', 'lifeboat.volumes'] as const;

/** Every label that a container can carry. docs/labels.md is generated from this table. */
export const LABELS = {
  'lifeboat.postgres': {
    parse: boolean,
    form: '`true`',
    doc: 'back up the Postgres databases of this container',
  },
  'lifeboat.postgres.databases': {
    parse: list(),
    form: 'comma list',
    doc: 'back up only these databases. Default: all databases except templates. To back up a template, list it here',
    needs: POSTGRES,
  },
  'lifeboat.postgres.exclude-databases': {
    parse: list(),
    form: 'comma list',
    doc: 'back up all databases except these',
    needs: POSTGRES,
  },
  'lifeboat.postgres.exclude-table-data': {
    parse: patterns,
    form: 'comma list of patterns',
    doc: 'back up these tables without their rows. Takes `pg_dump` patterns: `audit.*`, `public.cache`, `"Mixed"`. Without the double quotes, `Mixed` means `mixed`',
    needs: POSTGRES,
  },
  'lifeboat.postgres.user': {
    parse: matching(/^[^\0]{1,63}$/su, 'write the name of a role, of 63 characters at most'),
    form: 'name',
    doc: 'database role for this container, instead of `LIFEBOAT_PGUSER` or the user in the environment of the container',
    needs: POSTGRES,
  },
  'lifeboat.postgres.password-secret': {
    parse: matching(
      /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/,
      'write the name of a secret that the service has, never its value',
    ),
    form: 'name of a secret',
    // A user may write the password itself there by mistake.
    secret: true,
    doc: 'the Compose secret that holds the password of the database role. The service must have this secret: Lifeboat reads `/run/secrets/<name>` in its container',
    needs: POSTGRES,
  },
  'lifeboat.postgres.pitr': {
    parse: boolean,
    form: '`true`',
    doc: 'also store base backups and the write-ahead log (WAL), for [recovery to any point in time](point-in-time.md)',
    needs: POSTGRES,
  },
  'lifeboat.postgres.pitr.window': {
    parse: duration({ min: '1h', max: '3650d' }),
    form: 'duration',
    doc: 'how far back recovery to a point in time reaches, `7d` if it is not set',
    needs: ['lifeboat.postgres.pitr'],
  },
  'lifeboat.volumes': {
    parse: booleanOrList,
    form: '`true`, or a comma list',
    doc: 'back up all named volumes and bind mounts of this container, or only the listed ones. List mount paths, volume names (with or without the project prefix), or keys under `volumes:`',
  },
  'lifeboat.volumes.include': {
    parse: globs,
    form: 'comma list of globs',
    doc: 'back up only these paths, relative to each volume: `uploads/**`',
    needs: VOLUMES,
  },
  'lifeboat.volumes.exclude': {
    parse: globs,
    form: 'comma list of globs',
    doc: 'back up all paths except these: `**/*.tmp,cache/**`',
    needs: VOLUMES,
  },
  'lifeboat.name': {
    parse: matching(
      /^[a-z0-9][a-z0-9_-]{0,62}$/,
      'write lower-case letters, digits, - and _, 63 at most, no - or _ first',
    ),
    form: 'name',
    doc: 'the first part of the source names (`<name>.postgres`). Default: the name of the Compose service',
    needs: EITHER,
  },
  'lifeboat.schedule': {
    parse: parseSchedule,
    form: 'schedule',
    doc: 'when to back up this container, instead of `LIFEBOAT_SCHEDULE`',
    needs: EITHER,
  },
  'lifeboat.keep': {
    parse: parseKeep,
    form: 'keep policy',
    doc: 'which snapshots of this container to keep, instead of `LIFEBOAT_KEEP`',
    needs: EITHER,
  },
  'lifeboat.rpo': {
    parse: duration({ min: '1s', max: '3650d' }),
    form: 'duration',
    doc: '[target](targets.md) for lost work of this container, instead of `LIFEBOAT_RPO`',
    needs: EITHER,
  },
  'lifeboat.rto': {
    parse: duration({ min: '1s', max: '365d' }),
    form: 'duration',
    doc: '[target](targets.md) for the duration of a restore of this container, instead of `LIFEBOAT_RTO`',
    needs: EITHER,
  },
  'lifeboat.stop': {
    parse: boolean,
    form: '`true` or `false`',
    doc: '`true`: stop this container while Lifeboat backs up its volumes. A restore of one of its volumes also stops it, and so does a restore of a database that its environment or command names. `false`: the restore of a database does not stop this container, even if it [uses the database](runbook.md#which-services-stop)',
    needs: VOLUMES,
  },
  'lifeboat.exec.pre': {
    parse: parseCommand,
    form: 'command',
    doc: 'command to run in this container [before its backup](#commands-around-a-backup), and before the backup of databases that it depends on. If the command fails, the backup of this container fails',
    needs: EITHER,
  },
  'lifeboat.exec.post': {
    parse: parseCommand,
    form: 'command',
    doc: 'command to run in this container [after its backup](#commands-around-a-backup), and after the backup of databases that it depends on. It runs even if a backup failed. If the container is not running, Lifeboat tries again every minute',
    needs: EITHER,
  },
  'lifeboat.exec.restored': {
    parse: parseCommand,
    form: 'command',
    doc: 'command to run in this container [after a restore](#after-a-restore) of its data, or of a database that it depends on. Example: `./manage.py migrate`. If the command fails, Lifeboat does not undo the restore',
    needs: EITHER,
  },
  'lifeboat.health': {
    parse: parseHealth,
    form: 'URL, or command',
    doc: 'tells [after a restore](#after-a-restore) whether the application works: a URL that must answer 2xx to Lifeboat, or a command that must end with status 0 in this container. Lifeboat asks when it has restored data of this container, or a database that it depends on. The answer is a part of the report',
    needs: EITHER,
  },
  'lifeboat.exec.user': {
    parse: matching(/^[A-Za-z0-9_][\w.-]{0,63}(:[A-Za-z0-9_][\w.-]{0,63})?$/, 'write a user, or user:group'),
    form: 'user, or `user:group`',
    doc: 'user, by name or number, that runs the `lifeboat.exec` commands and the command of `lifeboat.health`, instead of the user of the container',
    needs: HOOKS,
  },
  'lifeboat.drill.assert': {
    parse: parseAssert,
    form: 'SQL',
    doc: 'condition that must be true on the restored database in a [drill](drills.md): `(select count(*) from users) > 0`',
    needs: POSTGRES,
  },
  'lifeboat.drill.assert.*': {
    parse: parseAssert,
    form: 'SQL',
    doc: 'the same, for several conditions with a name each: `lifeboat.drill.assert.orders`',
    needs: POSTGRES,
  },
  'lifeboat.drill.database': {
    parse: matching(/^[^\0]{1,63}$/su, 'write the name of a database, of 63 characters at most'),
    form: 'name',
    doc: 'the database that these conditions are about. Default: the database that the environment of the container names, or else its only database with data',
    needs: ASSERTS,
  },
  'lifeboat.drill.health': {
    parse: parseCommand,
    form: 'command',
    doc: 'smoke test of `lifeboat drill --stack`: a command that must end with status 0 in a new container of this image, [next to the restored data](drills.md#the-whole-stack)',
    needs: EITHER,
  },
} as const satisfies Fields;

/** The typed values of a container's labels. */
export type LabelValues = Values<typeof LABELS>;

/** Returns true for a key that is meant for Lifeboat, even if it is misspelt. */
function isOurs(key: string): boolean {
  if (/^lifeboat(\.|$)/i.test(key)) return true;
  // Other programs use similar prefixes. A label whose name is similar too is most likely a misspelt one.
  return hasLikePrefix(key) && suggest(key, Object.keys(LABELS)) !== undefined;
}

/** Returns the labels that a user set for Lifeboat, without those inherited from the image. Sorted by key. */
export function ownLabels(
  labels: Readonly<Record<string, string>>,
  imageLabels: Readonly<Record<string, string>>,
): Map<string, string> {
  const inherited = (key: string, value: string) => Object.hasOwn(imageLabels, key) && imageLabels[key] === value;
  const ours = Object.entries(labels).filter(([key, value]) => isOurs(key) && !inherited(key, value));
  return new Map(ours.sort(([a], [b]) => (a < b ? -1 : 1)));
}

const EXCLUDE = 'lifeboat.postgres.exclude-databases';

/**
 * Parses the labels of one container, as {@link ownLabels} returns them.
 *
 * @param surrounds its service depends on a labelled database, so its commands have an effect without own data
 */
export function readLabels(
  given: ReadonlyMap<string, string>,
  surrounds: boolean,
): { values: LabelValues; mistakes: Mistake[] } {
  const { values: read, mistakes: found } = readFields('label', LABELS, given, surrounds ? HOOKS : []);
  // `false` prevents a restore of a database from stopping the container. It needs no other label.
  const stop = boolean(given.get('lifeboat.stop') ?? '');
  const isExcluded = 'value' in stop && !stop.value;
  const values = isExcluded ? { ...read, 'lifeboat.stop': false } : read;
  const mistakes = found.filter(({ key, kind }) => !(isExcluded && key === 'lifeboat.stop' && kind === 'unused'));
  const both = values['lifeboat.postgres.databases']?.find((name) => values[EXCLUDE]?.includes(name));
  if (both === undefined) return { values, mistakes };
  const message = `${EXCLUDE} names ${quote(both)}, and so does lifeboat.postgres.databases`;
  mistakes.push(mistake(EXCLUDE, 'invalid', message, 'remove it from one of them'));
  return { values: { ...values, [EXCLUDE]: undefined }, mistakes };
}

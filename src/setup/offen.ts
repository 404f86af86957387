import { contains } from '../plan/host-paths.ts';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import { identityOf } from '../plan/mounts.ts';
import { addLabel, emptyTranslation, looksLikeCluster, nameOfMount, type Translation } from './foreign.ts';
import { isRun, stopValues, translateDump, translateLabels } from './offen-commands.ts';
import { type Dump, dumpsIn, isForDumps } from './offen-dumps.ts';
import { translateSettings } from './offen-settings.ts';

/**
 * Translates a set-up of offen/docker-volume-backup (its documentation, "Configuration reference" and "How tos"). The
 * volumes that its container mounts below `/backup` become labels of the services that write to them.
 */
export function translateOffen(containers: readonly ContainerFacts[]): Translation {
  const translation = emptyTranslation();
  const agents = containers.filter(isOffen);
  const others = containers.filter((one) => !isOffen(one));
  if (agents.length === 0) {
    translation.notes.push('No container of offen/docker-volume-backup was found, so only labels are translated.');
  }
  const dumps = dumpsIn(others.filter((one) => isRun(one, agents)));
  for (const dump of dumps) translateDump(translation, dump);
  for (const agent of agents) {
    for (const mount of agent.mounts.filter(({ destination }) => contains(sourcesOf(agent), destination))) {
      translateMount(translation, mount, { others, dumps });
    }
    translateSettings(translation, agent);
  }
  const values = stopValues(agents);
  for (const container of others) translateLabels(translation, container, { values, dumps, agents });
  if (agents.length > 1) {
    translation.notes.push('Several containers make backups. The settings of the last one are shown.');
  }
  return translation;
}

/** Variables that no other program has. */
const OWN = /^BACKUP_(CRON_EXPRESSION|FILENAME|RETENTION_DAYS|SOURCES|ARCHIVE|COMPRESSION|STOP_|PRUNING_)/;

function sourcesOf({ env }: ContainerFacts): string {
  return env.BACKUP_SOURCES || '/backup';
}

function isOffen(container: ContainerFacts): boolean {
  const { env, command = [], mounts } = container;
  const reads = mounts.some(({ destination }) => contains(sourcesOf(container), destination));
  return (
    reads &&
    (command[0] === '/usr/bin/backup' || command[0] === 'backup' || Object.keys(env).some((name) => OWN.test(name)))
  );
}

function translateMount(
  translation: Translation,
  mount: Mount,
  { others, dumps }: { others: readonly ContainerFacts[]; dumps: readonly Dump[] },
): void {
  const users = others.filter(({ mounts }) => mounts.some((one) => identityOf(one) === identityOf(mount)));
  const isWriter = ({ mounts }: ContainerFacts) =>
    mounts.some((one) => one.writable && identityOf(one) === identityOf(mount));
  const user = users.find(isWriter) ?? users[0];
  const own = user?.mounts.find((one) => identityOf(one) === identityOf(mount));
  if (!user || !own) {
    translation.notes.push(
      `No other service mounts ${mount.name ?? mount.source}: mount it where Lifeboat reads it, below /config.`,
    );
    return;
  }
  if (looksLikeCluster(own, user)) addLabel(translation, user.service, 'lifeboat.postgres', 'true');
  else if (isForDumps(mount, users, dumps)) {
    translation.notes.push(
      `${user.service}: ${nameOfMount(own, user.project)} only receives dumps. Nothing writes them any more, so they go stale: leave the volume out.`,
    );
  } else addLabel(translation, user.service, 'lifeboat.volumes', nameOfMount(own, user.project));
}

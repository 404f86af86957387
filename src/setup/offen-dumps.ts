import { parseCommand } from '../plan/command.ts';
import { contains } from '../plan/host-paths.ts';
import type { ContainerFacts, Mount } from '../plan/model.ts';
import { identityOf } from '../plan/mounts.ts';
import { looksLikeCluster, nameOfMount } from './foreign.ts';

export const PREFIX = 'docker-volume-backup.';

/** The labels with commands that have a counterpart. */
const HOOKS = { 'archive-pre': 'pre', 'exec-pre': 'pre', 'archive-post': 'post', 'exec-post': 'post' } as const;

/** A label with a command. */
export interface OffenLabel {
  /** without its prefix */
  name: string;
  hook: 'pre' | 'post';
  command: string;
}

/** Returns the commands of a container that have a counterpart. */
export function offenLabels({ labels }: ContainerFacts): OffenLabel[] {
  return Object.entries(HOOKS).flatMap(([name, hook]) => {
    const command = labels[`${PREFIX}${name}`];
    return command === undefined ? [] : [{ name, hook, command }];
  });
}

/** A command of the other program that dumps databases of a Postgres server. */
export interface Dump extends OffenLabel {
  container: ContainerFacts;
  /** the service of the server; absent if the command does not show it */
  server?: string;
  /** absolute paths in the container, as the command writes them */
  files: string[];
}

/** Finds the commands that dump databases of Postgres before an archive is made. */
export function dumpsIn(containers: readonly ContainerFacts[]): Dump[] {
  return containers.flatMap((container) =>
    offenLabels(container)
      .filter(({ hook, command }) => hook === 'pre' && /\bpg_dump(all)?\b/.test(command))
      .map((label) => {
        const server = serverOf(label.command, container, containers);
        return { ...label, container, files: filesIn(label.command), ...(server === undefined ? {} : { server }) };
      }),
  );
}

/** Returns whether a mount only receives dumps: nobody else has it, and it is named after dumps. */
export function isForDumps(mount: Mount, users: readonly ContainerFacts[], dumps: readonly Dump[]): boolean {
  const isDumper = (user: ContainerFacts) =>
    dumps.some(({ container, files }) => {
      const own = user.mounts.find((one) => identityOf(one) === identityOf(mount));
      if (container.id !== user.id || own === undefined) return false;
      // The path of a named volume on the host has the names of the project and of Docker's directory.
      const name = `${nameOfMount(own, user.project)} ${own.destination}`;
      return /dump|backup|sql/i.test(name) && files.some((file) => mountOf(file, user) === own);
    });
  return users.length > 0 && users.every(isDumper);
}

/** Returns whether a command only removes files that dumps of the same container wrote. */
export function isCleanup({ command }: OffenLabel, container: ContainerFacts, dumps: readonly Dump[]): boolean {
  const [program = '', ...words] = scriptOf(command).trim().split(/\s+/);
  const paths = words.filter((word) => !word.startsWith('-')).map((word) => word.replace(/^["']|["']$/g, ''));
  const files = dumps.filter((dump) => dump.container.id === container.id).flatMap((dump) => dump.files);
  const isDump = (path: string) => files.some((file) => file === path || matches(path, file));
  return /^(\/usr)?(\/bin\/)?rm$/.test(program) && paths.length > 0 && paths.every(isDump);
}

/** Returns whether a pattern such as `/dumps/*.sql` stands for a file. */
function matches(pattern: string, file: string): boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return parts.length > 1 && new RegExp(`^${parts.join('[^/]*')}$`).test(file);
}

/** Returns the mount that holds a path: the deepest one. */
function mountOf(path: string, { mounts }: ContainerFacts): Mount | undefined {
  return mounts
    .filter(({ destination }) => contains(destination, path))
    .toSorted((a, b) => b.destination.length - a.destination.length)[0];
}

/** Returns the text that a shell runs: that after `sh -c`, or the command itself. */
function scriptOf(command: string): string {
  const parsed = parseCommand(command);
  const argv = 'value' in parsed ? parsed.value : [];
  const at = argv.findIndex((word) => /^-\w*c$/.test(word));
  if (at > 0 && /sh$/.test(argv[at - 1] ?? '')) return argv[at + 1] ?? '';
  return command.replace(/^\S*sh\s+-\w*c\s+/, '').replace(/^(["'])([\s\S]*)\1$/, '$2');
}

/** Returns the absolute names of the files that a command writes. */
function filesIn(command: string): string[] {
  const script = scriptOf(command);
  const written = /(?:(?<!2)>{1,2}|\btee(?:\s+-a)?|\s-f|\s--file[=\s])\s*["']?(\/[^\s;&|"')]+)/g;
  return [...script.matchAll(written)].map(([, file = '']) => file).filter((file) => !file.startsWith('/dev/'));
}

/**
 * Returns the service whose server a command dumps: that of the host it names. Without one, its own service if that is
 * a server: an application may keep the address in a variable of its own.
 */
function serverOf(
  command: string,
  container: ContainerFacts,
  containers: readonly ContainerFacts[],
): string | undefined {
  const { service, env, mounts } = container;
  const script = scriptOf(command);
  const [, flag] = /\s(?:-h|--host)[=\s]*["']?([^\s"']+)/.exec(script) ?? [];
  const [, inUrl] = /postgres(?:ql)?:\/\/(?:[^@/\s]*@)?([^:/?\s"']+)/.exec(script) ?? [];
  const [, inString] = /\bhost=([^\s"']+)/.exec(script) ?? [];
  const [, assigned] = /\bPGHOST=["']?([^\s"']+)/.exec(script) ?? [];
  const host = flag ?? inUrl ?? inString ?? assigned ?? env.PGHOST ?? '';
  if (host === '' || host.startsWith('/') || /^(localhost|127\.|::1)/.test(host))
    return mounts.some((mount) => looksLikeCluster(mount, container)) ? service : undefined;
  const isCalled = (one: ContainerFacts) =>
    [one.service, one.name, ...Object.values(one.networks ?? {}).flatMap(({ aliases }) => aliases)].includes(host);
  return containers.find(isCalled)?.service;
}

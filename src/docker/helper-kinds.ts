import type { Mount } from '../plan/model.ts';
import { type HelperMount, type HelperSpec, helperMount } from './helper.ts';

/** A mount that a kind of helper may have. */
interface AllowedMount {
  /** the description in docs/security.md */
  doc: string;
  /** `either`: each helper chooses */
  access: 'read-only' | 'read-write' | 'either';
}

/**
 * The privileges and mounts of one kind of helper. Helpers get mounts and capabilities only from here, and the table of
 * docs/security.md is generated from this, so it is complete.
 */
export interface HelperKind<Role extends string = string> {
  /** one word, part of the container name */
  purpose: string;
  /** this and the next three are worded for the docs */
  title: string;
  task: string;
  image: string;
  network: string;
  mounts: Readonly<Record<Role, AllowedMount>>;
  /** the reason for each capability, by its name */
  capabilities: Readonly<Record<string, string>>;
  tmpfs?: Readonly<Record<string, string>>;
  /** for untrusted programs: memory in MiB, and the number of processes */
  limits?: { memoryMib: number; pids: number };
}

const defineKind = <Role extends string>(kind: HelperKind<Role>): HelperKind<Role> => kind;

/** Every kind of helper. */
export const HELPER_KINDS = {
  postgres: defineKind({
    purpose: 'postgres',
    title: 'Database helper',
    task: 'connects to a database server, and dumps or restores its databases',
    image: "the database's",
    network: "the database container's",
    mounts: {
      run: {
        doc: 'One directory of the run in the spool. Read-write for a backup. Read-only for a restore, except for one scratch directory in it.',
        access: 'either',
      },
      socket: {
        doc: "The mount that holds the server's Unix socket, if the server listens on nothing else.",
        access: 'read-only',
      },
      data: {
        doc: 'The data directory of the server, during a restore, to measure the free space there.',
        access: 'read-only',
      },
    },
    capabilities: {},
    tmpfs: { '/run/lifeboat': 'mode=0700,size=1m' },
  }),
  import: defineKind({
    purpose: 'import',
    title: 'Import helper',
    task: 'runs a throwaway database server that loads the dump of an import',
    image: "the database's",
    network: 'none',
    mounts: { dump: { doc: 'The directory of the spool that holds the dump.', access: 'read-only' } },
    capabilities: {},
    limits: { memoryMib: 2048, pids: 512 },
  }),
  drill: defineKind({
    purpose: 'drill',
    title: 'Drill helper',
    task: 'runs a throwaway database server that a drill restores into',
    image: "the database's, as recorded with the snapshot",
    network: 'none',
    mounts: {
      data: { doc: 'A new volume, which the engine removes together with the helper.', access: 'read-write' },
    },
    capabilities: {},
    limits: { memoryMib: 2048, pids: 512 },
  }),
  application: defineKind({
    purpose: 'application',
    title: 'Application helper',
    task: 'runs `lifeboat.drill.health` in a drill of the whole stack',
    image: "the application's",
    network: "the drill helper's, which has no network",
    mounts: { volume: { doc: 'The new volumes into which the drill restored files.', access: 'read-write' } },
    capabilities: {},
    limits: { memoryMib: 2048, pids: 512 },
  }),
  recovery: defineKind({
    purpose: 'recovery',
    title: 'Recovery helper',
    task: 'runs a database server that recovers a base backup to a point in time',
    image: "the database's, as recorded with the base backup",
    network: 'none',
    mounts: {
      data: { doc: 'The new volume that the base backup was restored into.', access: 'read-write' },
      wal: { doc: 'A directory of the spool with the WAL that the server asked for.', access: 'read-only' },
      wanted: {
        doc: 'An empty directory of the spool, in which the server asks for files by name.',
        access: 'read-write',
      },
    },
    capabilities: {},
    tmpfs: { '/run/lifeboat': 'mode=1777,size=64m' },
  }),
  volume: defineKind({
    purpose: 'volume',
    title: 'Volume helper',
    task: 'reads a volume for a backup, or writes it for a restore',
    image: "Lifeboat's",
    network: "Lifeboat's if the helper must reach a bucket, otherwise none",
    mounts: {
      volume: {
        doc: 'The volume. Read-only, except when a restore writes to it. For a recovery in place, also the recovered volume, read-only.',
        access: 'either',
      },
      repository: {
        doc: 'The directory of the backups, if they are in a directory and the helper stores or restores files. Read-only for a restore.',
        access: 'either',
      },
      spool: {
        doc: 'The parts of the spool that the job needs: the directory of the run, its journal, the last index of the source (read-only), and, for a bucket, the record of uploads.',
        access: 'either',
      },
      code: { doc: 'The compiled program of Lifeboat.', access: 'read-only' },
      credentials: { doc: 'For a bucket, the files that `AWS_…` and `NODE_EXTRA_CA_CERTS` name.', access: 'read-only' },
    },
    capabilities: {
      CHOWN: 'to give files their owners',
      DAC_OVERRIDE: 'to read and write files of any owner',
      FOWNER: 'to give files their modes and times',
      FSETID: 'to keep set-group-id bits',
    },
    // Replaces the volume that the image declares.
    tmpfs: { '/spool': 'mode=0700,size=1m' },
  }),
} as const;

/** A mount for a role of a kind: what to mount, and where. */
export interface RoleMount {
  mount: Mount;
  target: string;
  /** only if the kind leaves the access open */
  access?: 'read-only' | 'read-write';
}

/** Returns the configuration that all helpers of a kind share, with the given mounts by role. Helpers run as root. */
export function kindSpec<Role extends string>(
  kind: HelperKind<Role>,
  mounts: Partial<Record<Role, readonly RoleMount[]>>,
): Pick<HelperSpec, 'purpose' | 'mounts' | 'user' | 'capAdd' | 'tmpfs' | 'memory' | 'pids'> {
  const all = Object.entries(mounts) as [Role, readonly RoleMount[] | undefined][];
  return {
    purpose: kind.purpose,
    user: '0:0',
    capAdd: Object.keys(kind.capabilities),
    mounts: all.flatMap(([role, list = []]) => list.map((one) => toMount(kind.mounts[role], one))),
    ...(kind.tmpfs ? { tmpfs: kind.tmpfs } : {}),
    ...(kind.limits ? { memory: kind.limits.memoryMib * 1024 ** 2, pids: kind.limits.pids } : {}),
  };
}

function toMount({ access }: AllowedMount, { mount, target, access: chosen = 'read-only' }: RoleMount): HelperMount {
  return helperMount(mount, target, (access === 'either' ? chosen : access) === 'read-write');
}

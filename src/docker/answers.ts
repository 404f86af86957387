import { z } from 'zod';
import { LifeboatError } from '../base/errors.ts';
import type { Mount } from '../plan/model.ts';

/** A row of the container list. */
export interface ContainerSummary {
  id: string;
  /** without the leading slash */
  name: string;
  image: string;
  /** `running`, `exited`, `created`, `paused`, `restarting`, `dead`… */
  state: string;
  /** seconds since the epoch */
  created: number;
  labels: Record<string, string>;
  /** as in {@link ContainerDetails}; empty if the engine does not list it */
  networkMode: string;
  mounts: Mount[];
}

/** The engine's details of one container. */
export interface ContainerDetails {
  id: string;
  /** without the leading slash */
  name: string;
  imageId: string;
  state: string;
  running: boolean;
  paused: boolean;
  /** exit status of the last run; 0 while running */
  exitCode: number;
  oomKilled: boolean;
  /** state of the health check; absent if the container has none */
  health?: 'starting' | 'healthy' | 'unhealthy';
  /** ISO times; year 1 means never */
  startedAt: string;
  finishedAt: string;
  hostname: string;
  user: string;
  labels: Record<string, string>;
  env: Record<string, string>;
  /** the entry point and its arguments */
  command: string[];
  mounts: Mount[];
  /** paths of the `tmpfs:` mounts (`--tmpfs`), which `mounts` leaves out */
  tmpfs: string[];
  /** `bridge`, `container:<id>`, a network's name… */
  networkMode: string;
  /** `private`, `shareable`, `container:<id>`… */
  ipcMode: string;
  /** `container:<id>`, `host`, or empty for a namespace of its own */
  pidMode: string;
  /** whether the engine removes the container when it stops (`--rm`) */
  autoRemove: boolean;
  /** `no`, `always`, `unless-stopped`, `on-failure`; empty if the engine reports none */
  restartPolicy: string;
  /** how often the engine has restarted the container since somebody started it */
  restarts: number;
  /** ISO time */
  createdAt: string;
  /** seconds until a stop kills the container, if it was created with that setting (`stop_grace_period` in Compose) */
  stopTimeout: number | undefined;
  networks: Record<string, { addresses: string[]; aliases: string[] }>;
}

/** The engine's details of an image. */
export interface ImageDetails {
  id: string;
  digests: string[];
  labels: Record<string, string>;
  env: Record<string, string>;
}

/** The state of an exec. `exitCode` is null while it runs, and if the engine does not know it. */
export interface ExecState {
  containerId: string;
  running: boolean;
  exitCode: number | null;
}

/** A container event. */
export interface EngineEvent {
  /** `start`, `die`… */
  action: string;
  id: string;
  /** seconds since the epoch by the engine's clock, with fraction */
  time: number;
  attributes: Record<string, string>;
}

const strings = z
  .record(z.string(), z.string())
  .nullish()
  .transform((value) => value ?? {});
const list = z
  .array(z.string())
  .nullish()
  .transform((value) => value ?? []);
const text = z
  .string()
  .nullish()
  .transform((value) => value ?? '');
const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false);
const id = z.string().min(1);
const environment = list.transform((lines) =>
  Object.fromEntries(
    lines.map((line) => {
      const at = line.indexOf('=');
      return at < 0 ? [line, ''] : [line.slice(0, at), line.slice(at + 1)];
    }),
  ),
);
const bare = (name: string) => name.replace(/^\//, '');

const mount = z
  .object({ Type: z.string(), Name: text, Source: text, Destination: z.string(), RW: z.boolean() })
  .transform((m): Mount => {
    const base = { type: m.Type, source: m.Source, destination: m.Destination, writable: m.RW };
    return m.Type === 'volume' && m.Name ? { ...base, name: m.Name } : base;
  });

const mounts = z.array(mount).nullish();

const hostConfig = z.object({ NetworkMode: text, RestartPolicy: z.object({ Name: text }).nullish() });

export const summaries = z.array(
  z
    .object({
      Id: id,
      Names: list,
      Image: text,
      State: text,
      Created: z.number(),
      Labels: strings,
      HostConfig: z.object({ NetworkMode: text }).nullish(),
      Mounts: mounts,
    })
    .transform(
      (c): ContainerSummary => ({
        id: c.Id,
        // A container with links from others has more names, each `/other/alias`.
        name: bare(c.Names.find((name) => name.lastIndexOf('/') === 0) ?? c.Names[0] ?? c.Id.slice(0, 12)),
        image: c.Image,
        state: c.State,
        created: c.Created,
        labels: c.Labels,
        networkMode: c.HostConfig?.NetworkMode ?? '',
        mounts: c.Mounts ?? [],
      }),
    ),
);

function healthOf(status: string | undefined): Pick<ContainerDetails, 'health'> {
  return status === 'starting' || status === 'healthy' || status === 'unhealthy' ? { health: status } : {};
}

const network = z.object({ IPAddress: text, GlobalIPv6Address: text, Aliases: list }).transform((n) => ({
  addresses: [n.IPAddress, n.GlobalIPv6Address].filter((one) => one !== ''),
  aliases: n.Aliases,
}));

export const container = z
  .object({
    Id: id,
    Name: z.string(),
    Image: id,
    Path: text,
    Args: list,
    Created: text,
    RestartCount: z
      .number()
      .nullish()
      .transform((value) => value ?? 0),
    State: z.object({
      Status: text,
      Running: z.boolean(),
      Paused: flag,
      ExitCode: z.number().int(),
      OOMKilled: flag,
      Health: z.object({ Status: text }).nullish(),
      StartedAt: text,
      FinishedAt: text,
    }),
    Config: z.object({
      Hostname: text,
      User: text,
      Labels: strings,
      Env: environment,
      StopTimeout: z.number().nullish(),
    }),
    HostConfig: hostConfig.extend({
      IpcMode: text,
      PidMode: text,
      AutoRemove: flag,
      Tmpfs: z.record(z.string(), z.unknown()).nullish(),
    }),
    Mounts: mounts,
    NetworkSettings: z.object({ Networks: z.record(z.string(), network).nullish() }).nullish(),
  })
  .transform(
    (c): ContainerDetails => ({
      id: c.Id,
      name: bare(c.Name),
      imageId: c.Image,
      state: c.State.Status,
      running: c.State.Running,
      paused: c.State.Paused,
      exitCode: c.State.ExitCode,
      oomKilled: c.State.OOMKilled,
      ...healthOf(c.State.Health?.Status),
      startedAt: c.State.StartedAt,
      finishedAt: c.State.FinishedAt,
      hostname: c.Config.Hostname,
      user: c.Config.User,
      labels: c.Config.Labels,
      env: c.Config.Env,
      command: [c.Path, ...c.Args],
      mounts: c.Mounts ?? [],
      tmpfs: Object.keys(c.HostConfig.Tmpfs ?? {}),
      networkMode: c.HostConfig.NetworkMode,
      ipcMode: c.HostConfig.IpcMode,
      pidMode: c.HostConfig.PidMode,
      autoRemove: c.HostConfig.AutoRemove,
      restartPolicy: c.HostConfig.RestartPolicy?.Name ?? '',
      restarts: c.RestartCount,
      createdAt: c.Created,
      stopTimeout: c.Config.StopTimeout ?? undefined,
      networks: c.NetworkSettings?.Networks ?? {},
    }),
  );

export const image = z
  .object({ Id: id, RepoDigests: list, Config: z.object({ Labels: strings, Env: environment }).nullish() })
  .transform(
    (i): ImageDetails => ({
      id: i.Id,
      digests: i.RepoDigests,
      labels: i.Config?.Labels ?? {},
      env: i.Config?.Env ?? {},
    }),
  );

export const volume = z
  .object({ Labels: strings, Options: strings })
  .transform(({ Labels, Options }) => ({ labels: Labels, options: Options }));
/** The labels of a volume, and the options of its driver. */
export type VolumeDetails = z.infer<typeof volume>;

export const service = z
  .object({ Spec: z.object({ Labels: strings }) })
  .transform(({ Spec: { Labels } }) => ({ labels: Labels }));

export const execState = z
  .object({ ContainerID: id, Running: z.boolean(), ExitCode: z.number().int().nullish() })
  .transform((e): ExecState => ({ containerId: e.ContainerID, running: e.Running, exitCode: e.ExitCode ?? null }));

export const event = z
  .object({
    Action: z.string(),
    Actor: z.object({ ID: z.string(), Attributes: strings }),
    time: z.number(),
    timeNano: z.number().nullish(),
  })
  .transform(
    (e): EngineEvent => ({
      action: e.Action,
      id: e.Actor.ID,
      time: e.timeNano ? e.timeNano / 1e9 : e.time,
      attributes: e.Actor.Attributes,
    }),
  );

export const created = z.object({ Id: id, Warnings: list }).transform((c) => ({ id: c.Id, warnings: c.Warnings }));
export const execCreated = z.object({ Id: id });
export const waited = z.object({ StatusCode: z.number().int(), Error: z.object({ Message: text }).nullish() });

/** Checks a response against its schema. @throws ENGINE_PROTOCOL, which names the first invalid field */
export function checked<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const at = issue?.path.join('.') || 'the answer';
  throw new LifeboatError(
    'ENGINE_PROTOCOL',
    `engine sent a ${what} that cannot be right: ${at}: ${issue?.message ?? ''}`,
  );
}

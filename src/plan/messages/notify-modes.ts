import { type Parsed, quote } from '../values/fields.ts';
import { didYouMean } from '../values/suggest.ts';

/** The channels of messages for people. LIFEBOAT_NOTIFY may name each of them. */
export const CHANNELS = ['slack', 'discord', 'email', 'ntfy', 'telegram', 'webhook'] as const;
export type ChannelName = (typeof CHANNELS)[number];

/** Which runs a channel reports. */
const NOTIFY_MODES = ['always', 'failure', 'change'] as const;
export type NotifyMode = (typeof NOTIFY_MODES)[number];

/** The mode of each channel. */
export type NotifyModes = Readonly<Record<ChannelName, NotifyMode>>;

const isMode = (word: string): word is NotifyMode => NOTIFY_MODES.some((mode) => mode === word);
const isChannel = (word: string): word is ChannelName => CHANNELS.some((name) => name === word);

/**
 * Parses `LIFEBOAT_NOTIFY`: a mode for all channels, modes of single channels, or both, separated by spaces or commas:
 * `failure email=change`. A channel without a mode has the one for all, or else `always`.
 */
export function parseNotify(text: string): Parsed<NotifyModes> {
  const hint = 'write always, failure or change, and for one channel email=change';
  const given = new Map<ChannelName, NotifyMode>();
  let all: NotifyMode | undefined;
  for (const item of text
    .toLowerCase()
    .split(/[\s,]+/)
    .filter(Boolean)) {
    const [first = '', second, ...more] = item.split('=');
    const mode = second ?? first;
    if (!isMode(mode) || more.length > 0) return { problem: `has ${quote(item)}, which is no possible value`, hint };
    if (second === undefined) {
      if (all !== undefined) return { problem: 'has two values for all channels', hint };
      all = mode;
    } else if (!isChannel(first)) {
      const names = `the channels are ${CHANNELS.join(', ')}`;
      return { problem: `names the unknown channel ${quote(first)}`, hint: didYouMean(first, CHANNELS) ?? names };
    } else if (given.has(first)) {
      return { problem: `names the channel ${first} twice`, hint };
    } else given.set(first, mode);
  }
  const modeOf = (name: ChannelName) => given.get(name) ?? all ?? 'always';
  const [slack, discord, email] = [modeOf('slack'), modeOf('discord'), modeOf('email')];
  return {
    value: { slack, discord, email, ntfy: modeOf('ntfy'), telegram: modeOf('telegram'), webhook: modeOf('webhook') },
  };
}

import type { Channel } from './channel.ts';
import { characters, cut, fitBody } from './fit.ts';
import { createPost, type Post } from './http.ts';
import type { Level } from './message.ts';

/** Limits of an embed, in characters: https://docs.discord.com/developers/resources/message (Embed Limits) */
const MAX_TITLE = 256;
const MAX_TEXT = 4_096;

const COLOURS: Record<Level, number> = { bad: 0xc0392b, warning: 0xd68910, good: 0x1e8449, info: 0x5d6d7e };

/** Options of {@link createDiscord}. `url`: that of a webhook. */
interface DiscordOptions {
  url: URL;
  post?: Post;
}

/** Sends messages to a Discord webhook: https://docs.discord.com/developers/resources/webhook#execute-webhook */
export function createDiscord({ url, post = createPost() }: DiscordOptions): Channel {
  const target = new URL(url);
  // Without it, Discord answers before it has checked the message.
  target.searchParams.set('wait', 'true');
  return {
    name: 'discord',
    async send(message, signal) {
      const embed = {
        title: cut(message.title, MAX_TITLE, escapeMarkdown),
        description: fitBody(message, characters(MAX_TEXT), escapeMarkdown).join('\n'),
        color: COLOURS[message.level],
        timestamp: message.at,
      };
      // Names from containers mention nobody.
      const request = { username: 'Lifeboat', embeds: [embed], allowed_mentions: { parse: [] } };
      await post({ url: target, body: JSON.stringify(request), contentType: 'application/json', signal });
      return `${url.host} accepted the message`;
    },
  };
}

/** Escapes Discord's markup outside of commands in backticks. */
export function escapeMarkdown(line: string): string {
  return line
    .split(/(`[^`]+`)/)
    .map((part) =>
      /^`[^`]+`$/.test(part) ? part : part.replace(/[\\*_~`|>#[\]()<@:-]/g, (character) => `\\${character}`),
    )
    .join('');
}

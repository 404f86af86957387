/** A request as test/harness/receiver.ts records it. */
export interface Received {
  method: string;
  path: string;
  query: Record<string, string>;
  body: string;
  /** ms since 1970 */
  at: number;
}

interface Block {
  text?: { text: string };
  elements?: { text: string }[];
}

/** The text of a Slack message as people see it: that of its blocks, else the fallback. */
export function slackText(body: string): string {
  const { text = '', blocks = [] } = JSON.parse(body) as { text?: string; blocks?: Block[] };
  const parts = blocks.flatMap(({ text: own, elements = [] }) => [...(own ? [own] : []), ...elements]);
  return parts.length > 0 ? parts.map((part) => part.text).join('\n') : text;
}

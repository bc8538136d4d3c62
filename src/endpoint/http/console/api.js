// The API with the key that was typed in. The key lives in this tab's session storage and nowhere else.

const KEY = "iotsocketd.key";

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

/** What the API did not give: its status (0: no answer at all) and its sentence. */
export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

async function ask(path, signal) {
  let answer;
  try {
    answer = await fetch(path, {
      headers: { Authorization: `Bearer ${key.get()}` },
      cache: "no-store",
      credentials: "omit",
      referrerPolicy: "no-referrer",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refused(0, String(error.message));
  }
  if (answer.ok) return answer;
  const { error } = await answer.json().catch(() => ({ error: answer.statusText }));
  throw new Refused(answer.status, error);
}

/** The JSON at a path. */
export const get = async (path, signal) => (await ask(path, signal)).json();

/** A query without what is empty. */
export const query = (fields) =>
  new URLSearchParams(Object.entries(fields).filter(([, value]) => value !== "" && value != null)).toString();

/** Messages as they come behind `after`: by the stream, else by held calls. Ends when `signal` says so. */
export async function follow(fields, after, take, signal) {
  let streams = true;
  for (;;) {
    try {
      if (streams) {
        await stream(fields, () => after, (message) => {
          after = message.seq;
          take([message]);
        }, signal);
      } else {
        const page = await get(`/v1/messages?${query({ ...fields, after, wait: "20s" })}`, signal);
        after = page.next;
        take(page.messages);
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401 || error.status === 403) throw error;
      if (error.status === 404) {
        if (!streams) throw error;
        streams = false;
      }
    }
    if (signal.aborted) return;
    await new Promise((done) => setTimeout(done, 1000));
  }
}

/** Server-Sent Events by hand: the browser's own reader can send no key. */
async function stream(fields, after, take, signal) {
  const answer = await ask(`/v1/stream?${query({ ...fields, after: after() })}`, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const events = (text + value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6));
      if (data.length > 0) take(JSON.parse(data.join("\n")));
    }
  }
}

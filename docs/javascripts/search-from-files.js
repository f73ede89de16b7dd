// Search where pages are opened as files: browsers start no workers there, so what runs in the search's worker runs in a
// hidden frame instead. Over HTTP this does nothing.
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = `<script src="${new URL(url, location.href)}"><\/script>`
      this.loaded = new Promise(resolve => (this.frame.onload = resolve)).then(() => {
        this.frame.contentWindow.postMessage = data => this.later(() => this.onmessage?.({ data }))
      })
      document.body.append(this.frame)
    }

    // As with a worker, a message is a copy and comes after what is under way.
    later(deliver) {
      setTimeout(deliver)
    }

    postMessage(data) {
      const copy = structuredClone(data)
      this.loaded.then(() => this.later(() => this.frame.contentWindow.onmessage({ data: copy })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}

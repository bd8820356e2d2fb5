#pragma once
#include <cstdlib>
#include <new>

// Memory that outlives calls and only grows, so that its pages stay mapped and warm.
class Arena {
  public:
    void* get(size_t bytes) {
        if (bytes > size_) {
            std::free(data_);
            size_ = (bytes + 4095) / 4096 * 4096;
            data_ = std::aligned_alloc(4096, size_);
            if (!data_) throw std::bad_alloc();
        }
        return data_;
    }

  private:
    void* data_ = nullptr;
    size_t size_ = 0;
};
